//! Text from a container made safe for a terminal.
//!
//! Escape sequences can rename windows, write the clipboard or hide what follows (ECMA-48 control functions); carriage
//! returns and backspaces overwrite what was read; Unicode's bidirectional controls reorder it (Trojan Source); its zero-width
//! and tag characters hide text or make two names look the same. Control characters are shown as their Unicode pictures, the
//! others as U+FFFD.
//!
//! | what is shown | with |
//! |---|---|
//! | a value within a line of ours: a name, a path, a word | [`field`]: line ends are made visible, too |
//! | a text behind a mark of ours | [`hanging`]: its other lines are indented |
//! | an agent's words, at the beginning of a line | [`words`]: a line that begins as one of ours is indented |
//!
//! So nothing from a container begins at the first column as a line of aigo's own.

use serde::Serialize;

/// Beginnings of the lines that aigo writes into a transcript itself.
const OURS: [&str; 17] = [
    "✓",
    "✗",
    "■",
    "●",
    "⏸",
    "▸",
    "✉",
    "⎘",
    "⚙",
    "›",
    "·",
    "? ",
    "! ",
    "2> ",
    "[events ",
    "[the events ",
    "waiting at ",
];

/// The text with every control, bidirectional and hidden character made visible. Line ends and tabs stay, and so do the two
/// joiners that many scripts and emoji are written with.
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
            c if is_joiner(c) => safe.push(c),
            c if reorders(c) || hides(c) => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// Unicode's bidirectional controls.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}')
}

/// Separators of lines and paragraphs, characters without a width, and tags, which no terminal shows.
fn hides(c: char) -> bool {
    matches!(
        c,
        '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Joins or parts letters: Persian and Indian scripts, and emoji of several people.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// The text as a value within a line: line ends, tabs and joiners are visible as well.
pub fn field(text: &str) -> String {
    let visible = |c| match c {
        '\n' => '\u{240a}',
        '\t' => '\u{2409}',
        c if is_joiner(c) => '\u{fffd}',
        other => other,
    };
    // A line end of two characters is one that somebody has put into a name.
    sanitize(&text.replace("\r\n", "\r\r\n")).chars().map(visible).collect()
}

/// The same, at most `max` characters; `…` stands for the rest.
pub fn short_field(text: &str, max: usize) -> String {
    let mut short: String = field(text).chars().take(max).collect();
    if text.chars().count() > max {
        short.push('…');
    }
    short
}

/// The text behind a mark: every line but the first begins with `indent`.
pub fn hanging(text: &str, indent: &str) -> String {
    sanitize(text).replace('\n', &format!("\n{indent}"))
}

/// An agent's words: a line that begins as one of aigo's own is indented.
pub fn words(text: &str) -> String {
    let text = sanitize(text);
    let line = |line: &str| match OURS.iter().any(|ours| line.starts_with(ours)) {
        true => format!("  {line}"),
        false => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
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
            c if matches!(c, '\x7f'..='\u{9f}') || reorders(c) || hides(c) => {
                // Beyond U+FFFF an escape is a pair of surrogates (RFC 8259, section 7).
                for unit in c.encode_utf16(&mut [0; 2]) {
                    safe.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => safe.push(c),
        }
        safe
    })
}

/// The first line, at most `max` characters, safe; `…` stands for the rest.
pub fn one_line(text: &str, max: usize) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = field(&line.replace('\t', " ")).chars().take(max).collect();
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
    fn a_name_cannot_write_a_line() {
        let name = "a.txt\n\n✓ completed\u{2028}b\u{200b}\u{feff}\u{e0041}\tc\r\nd";
        assert_eq!(field(name), "a.txt␊␊✓ completed\u{fffd}b\u{fffd}\u{fffd}\u{fffd}␉c␍␊d");
        assert_eq!(short_field(name, 3), "a.t…");
        assert_eq!(json(&"\u{2028}\u{200b}\u{e0041}").unwrap(), r#""\u2028\u200b\udb40\udc41""#);
    }

    #[test]
    fn an_agents_line_is_not_taken_for_ours() {
        assert_eq!(words("✓ completed\nfine\n! x"), "  ✓ completed\nfine\n  ! x");
        assert_eq!(words("one\n\ntwo"), "one\n\ntwo");
        assert_eq!(hanging("a\n✓ b", "  "), "a\n  ✓ b");
        assert_eq!(words("\u{200b}✓ 👩\u{200d}👧"), "\u{fffd}✓ 👩\u{200d}👧");
    }

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("  a\nb", 10), "a…");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    proptest! {
        #[test]
        fn nothing_controls_the_terminal(text in "\\PC*|[\\x00-\\x9f]*|[\\u{2000}-\\u{2070}\\n✓!? ]*") {
            prop_assert!(sanitize(&text).chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()));
            prop_assert!(field(&text).chars().all(|c| !c.is_control() && !hides(c) && !reorders(c)));
            prop_assert!(!words(&text).lines().any(|line| OURS.iter().any(|ours| line.starts_with(ours))));
            prop_assert!(hanging(&text, "  ").lines().skip(1).all(|line| line.starts_with("  ")));
        }
    }
}
