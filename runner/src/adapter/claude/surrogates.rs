//! JSON of JavaScript may hold half a surrogate pair (a text cut in the middle of an emoji) as `\ud83d`. RFC 8259
//! leaves that open, `serde_json` refuses the whole line: such halves become U+FFFD, and nothing else is lost.

/// `line` with each lone surrogate escape replaced by `\ufffd`; `None` if there is none.
pub(super) fn mend(line: &[u8]) -> Option<Vec<u8>> {
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < line.len() {
        if line[at] != b'\\' {
            at += 1;
            continue;
        }
        match escape(line, at) {
            Some(0xD800..=0xDBFF) if matches!(escape(line, at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => {
                mended.get_or_insert_with(|| line.to_vec())[at..at + 6].copy_from_slice(br"\ufffd");
                at += 6;
            }
            // Any escape has at least two bytes; the second may be a backslash.
            _ => at += 2,
        }
    }
    mended
}

/// The code unit of a `\uXXXX` at `at`.
fn escape(line: &[u8], at: usize) -> Option<u16> {
    let digits = line.get(at..at + 6)?.strip_prefix(br"\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lone_halves_are_replaced_and_pairs_kept() {
        let mend = |text: &str| mend(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(mend(r#""a\ud83d""#).as_deref(), Some(r#""a\ufffd""#));
        assert_eq!(mend(r#""\ude00\ud83d\ud83d\ude00""#).as_deref(), Some(r#""\ufffd\ufffd\ud83d\ude00""#));
        assert_eq!(mend(r#""\ud83d\ude00""#), None);
        assert_eq!(mend(r#""\\ud83d \n \u00e9""#), None);
        assert_eq!(mend(r"\u"), None);
    }
}
