//! Sizes, durations and CPU counts as people type them, with errors that name the value and what is allowed.

use std::time::Duration;

/// A value that could not be read: names it and what is allowed. Ends up behind the flag's name.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{value}` is not a {what}: {allowed}")]
pub struct BadUnit {
    value: String,
    what: &'static str,
    allowed: &'static str,
}

/// Longest duration that is accepted: beyond it a typing error is likelier than a wish.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a size in bytes: `512m`, `8g`, `1.5g`, `1048576`. `k m g t` are powers of 1024, as for `docker run --memory`.
pub fn parse_size(text: &str) -> Result<u64, BadUnit> {
    const ALLOWED: &str = "use a number with b, k, m, g or t (powers of 1024), such as 512m or 4g";
    let bad = || BadUnit { value: text.to_owned(), what: "size", allowed: ALLOWED };
    let lower = text.trim().to_ascii_lowercase();
    let digits_end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, suffix) = lower.split_at(digits_end);
    let shift = match suffix {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    let scale = (1_u64 << shift) as f64;
    let number: f64 = number.parse().map_err(|_| bad())?;
    let bytes = number * scale;
    if !bytes.is_finite() || bytes < 1.0 || bytes > (1_u64 << 50) as f64 {
        return Err(bad());
    }
    Ok(bytes as u64)
}

/// Writes a size as people read it: `512 MiB`, `1.5 GiB`.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value.fract() < 0.05 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Reads a duration: `90s`, `30m`, `2h30m`, `1d`; `0` or `none` mean no limit.
pub fn parse_duration(text: &str) -> Result<Option<Duration>, BadUnit> {
    const ALLOWED: &str = "use a number with ms, s, m, h or d, such as 90s or 2h30m, or 0 for none (at most 366d)";
    let bad = || BadUnit { value: text.to_owned(), what: "duration", allowed: ALLOWED };
    let text = text.trim();
    if text == "0" || text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    let span: jiff::Span = text.parse().map_err(|_| bad())?;
    let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    let duration = Duration::try_from(signed).map_err(|_| bad())?;
    if duration > MAX_DURATION {
        return Err(bad());
    }
    Ok((!duration.is_zero()).then_some(duration))
}

/// Reads a duration that may not be absent: a grace period.
pub fn parse_grace(text: &str) -> Result<Duration, BadUnit> {
    parse_duration(text).map(Option::unwrap_or_default)
}

/// Writes a duration as people read it: `0.4s`, `1m 05s`, `2h 03m`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Writes a size without loss, as [`parse_size`] reads it: `4g`, `512m`, `1000`.
pub fn exact_size(bytes: u64) -> String {
    let units = [(40, "t"), (30, "g"), (20, "m"), (10, "k")];
    let unit = units.into_iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| bytes.to_string(), |(shift, suffix)| format!("{}{suffix}", bytes >> shift))
}

/// Writes a duration without loss of milliseconds, as [`parse_duration`] reads it: `2h30m`, `90d`, `0`.
pub fn exact_duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (unit, ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= ms {
            text.push_str(&format!("{}{unit}", left / ms));
            left %= ms;
        }
    }
    if text.is_empty() { "0".to_owned() } else { text }
}

/// A number of CPUs in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct MilliCpus(pub u32);

impl MilliCpus {
    /// In the unit of the engines' API.
    pub fn nano(self) -> i64 {
        i64::from(self.0) * 1_000_000
    }
}

impl std::fmt::Display for MilliCpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

/// Reads a number of CPUs: `2`, `0.5`. At least 0.01, the engines' own lower bound.
pub fn parse_cpus(text: &str) -> Result<MilliCpus, BadUnit> {
    const ALLOWED: &str = "use a number of CPUs from 0.01 to 1024, such as 2 or 0.5";
    let bad = || BadUnit { value: text.to_owned(), what: "number of CPUs", allowed: ALLOWED };
    let number: f64 = text.trim().parse().map_err(|_| bad())?;
    if !number.is_finite() || !(0.01..=1024.0).contains(&number) {
        return Err(bad());
    }
    Ok(MilliCpus((number * 1000.0).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("8g", 8 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("4096", 4096), ("64kib", 65536)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["5x", "", "g", "-1g", "1e9g", "0", "nan", "9999999t", "1..5g"] {
            let error = parse_size(bad).unwrap_err().to_string();
            assert!(error.contains(&format!("`{bad}`")) && error.contains("512m"), "{error}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in
            [("90s", 90_000), ("2h30m", 9_000_000), ("1d", 86_400_000), ("250ms", 250), ("5 minutes", 300_000)]
        {
            assert_eq!(parse_duration(text), Ok(Some(Duration::from_millis(ms))), "{text}");
        }
        assert_eq!(parse_duration("0"), Ok(None));
        assert_eq!(parse_duration("none"), Ok(None));
        for bad in ["90", "", "-5s", "1y", "soon", "900000h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus() {
        assert_eq!(parse_cpus("0.5"), Ok(MilliCpus(500)));
        assert_eq!(MilliCpus(1500).to_string(), "1.5");
        for bad in ["0", "-1", "two", "1025", "inf"] {
            assert!(parse_cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_exactly_is_read_again() {
        for (bytes, text) in [(4 << 30, "4g"), (3 << 29, "1536m"), (1000, "1000"), (1 << 40, "1t"), (1, "1")] {
            assert_eq!(exact_size(bytes), text);
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for (ms, text) in [(9_000_000, "2h30m"), (90 * 86_400_000, "90d"), (61_250, "1m1s250ms"), (0, "0")] {
            let duration = Duration::from_millis(ms);
            assert_eq!(exact_duration(duration), text);
            assert_eq!(parse_grace(text), Ok(duration), "{text}");
        }
    }

    #[test]
    fn what_people_read() {
        assert_eq!(format_size(1_610_612_736), "1.5 GiB");
        assert_eq!(format_size(999), "999 B");
        assert_eq!(format_duration(Duration::from_millis(412)), "0.4s");
        assert_eq!(format_duration(Duration::from_secs(65)), "1m 05s");
        assert_eq!(format_duration(Duration::from_secs(7380)), "2h 03m");
    }
}
