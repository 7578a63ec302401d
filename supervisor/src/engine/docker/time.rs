//! Times of the wire. Go's zero time stands for "never".

use jiff::Timestamp;

/// RFC 3339 text; `None` for nonsense and for times before 1970.
pub(super) fn from_text(text: Option<&str>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

pub(super) fn from_seconds(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

pub(super) fn from_nanos(nanos: i128) -> Option<Timestamp> {
    Timestamp::from_nanosecond(nanos).ok().filter(|time| *time > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_is_none() {
        assert_eq!(from_text(Some("0001-01-01T00:00:00Z")), None);
        assert_eq!(from_text(Some("")), None);
        assert!(from_text(Some("2026-11-21T03:46:50.768674814Z")).is_some());
        assert_eq!(from_seconds(0), None);
    }
}
