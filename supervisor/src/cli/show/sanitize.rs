//! Text from a container made safe for a terminal.
//!
//! Escape sequences can rename windows, write the clipboard or hide what follows (ECMA-48 control functions); carriage
//! returns and backspaces overwrite what was read; Unicode's bidirectional controls reorder it (Trojan Source). Control
//! characters are shown as their Unicode pictures, line ends and tabs stay.

use serde::Serialize;

/// The text with every control and bidirectional character made visible.
pub fn sanitize(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\n' | '\t' => safe.push(c),
            // A line end of another system's.
            '\r' if rest.peek() == Some(&'\n') => {}
            // U+2400 and following are the pictures of the C0 controls.
            '\0'..='\x1f' => safe.push(char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}')),
            '\x7f' => safe.push('\u{2421}'),
            '\u{80}'..='\u{9f}' => safe.push('\u{fffd}'),
            c if reorders(c) => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// Unicode's bidirectional controls.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// The value as one line of JSON that is safe, too: RFC 8259 asks for escapes of the C0 controls only.
///
/// # Errors
/// When it has no encoding.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|text| escape(&text))
}

/// The same in lines.
///
/// # Errors
/// When it has no encoding.
pub fn json_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| escape(&text))
}

/// Outside of texts JSON has none of these characters.
fn escape(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut safe, c| {
        match c {
            '\x7f'..='\u{9f}' => safe.push_str(&format!("\\u{:04x}", c as u32)),
            c if reorders(c) => safe.push_str(&format!("\\u{:04x}", c as u32)),
            c => safe.push(c),
        }
        safe
    })
}

/// The first line, at most `max` characters, safe; `…` stands for the rest.
pub fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = sanitize(line).replace('\t', " ").chars().take(max).collect();
    if line.chars().count() > max || text.lines().nth(1).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_says_the_same_without_controls() {
        let text = "a\x1b[31m\u{9b}31m\x7f\u{202e}é\u{1f600}";
        let safe = json(&text).unwrap();
        assert_eq!(safe, r#""a\u001b[31m\u009b31m\u007f\u202eé😀""#);
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        assert_eq!(json_pretty(&[text]).unwrap(), format!("[\n  {safe}\n]"));
    }

    #[test]
    fn escapes_become_visible() {
        assert_eq!(sanitize("a\x1b[31mred\x1b]0;title\x07b"), "a␛[31mred␛]0;title␇b");
        assert_eq!(sanitize("one\r\ntwo\rthree\x08\u{9b}31m"), "one\ntwo␍three␈\u{fffd}31m");
        assert_eq!(sanitize("ok\u{202e}gpj.exe"), "ok\u{fffd}gpj.exe");
        assert_eq!(sanitize("tab\there, déjà vu 🦀"), "tab\there, déjà vu 🦀");
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("  a\nb", 10), "a…");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    proptest! {
        #[test]
        fn nothing_controls_the_terminal(text in "\\PC*|[\\x00-\\x9f]*") {
            prop_assert!(sanitize(&text).chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
        }
    }
}
