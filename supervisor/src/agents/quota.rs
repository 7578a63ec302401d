//! A CPU quota in the kernel's terms: microseconds of each period.

use std::path::Path;

use crate::units::MilliCpus;

/// The kernel's default period, 100 ms in microseconds: long enough to cost little, short enough not to be felt.
pub(super) const PERIOD: u64 = 100_000;

/// Microseconds of each period; -1 is unbounded in both versions' terms.
pub(super) fn micros(quota: Option<MilliCpus>) -> i64 {
    quota.map_or(-1, |cpus| i64::from(cpus.0) * (PERIOD as i64) / 1000)
}

/// The quota that a cgroup has, in thousandths of a CPU: outer `None` if it cannot be read, inner if it is unbounded.
pub(super) fn read(folder: &Path) -> Option<Option<MilliCpus>> {
    let text = |name: &str| std::fs::read_to_string(folder.join(name));
    match text("cpu.max") {
        Ok(max) => parse_v2(&max),
        Err(_) => parse_v1(&text("cpu.cfs_quota_us").ok()?, &text("cpu.cfs_period_us").ok()?),
    }
}

fn parse_v2(text: &str) -> Option<Option<MilliCpus>> {
    let mut words = text.split_whitespace();
    match words.next()? {
        "max" => Some(None),
        quota => parts(quota.parse().ok()?, words.next()?.parse().ok()?).map(Some),
    }
}

fn parse_v1(quota: &str, period: &str) -> Option<Option<MilliCpus>> {
    match quota.trim().parse::<i64>().ok()? {
        ..0 => Some(None),
        quota => parts(quota.unsigned_abs(), period.trim().parse().ok()?).map(Some),
    }
}

fn parts(quota: u64, period: u64) -> Option<MilliCpus> {
    let thousandths = quota.checked_mul(1000)?.checked_div(period)?;
    u32::try_from(thousandths).ok().map(MilliCpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_written_and_read_back() {
        assert_eq!((micros(None), micros(Some(MilliCpus(500))), micros(Some(MilliCpus(10)))), (-1, 50_000, 1000));
        assert_eq!(parse_v2("max 100000\n"), Some(None));
        assert_eq!(parse_v2("125000 50000\n"), Some(Some(MilliCpus(2500))));
        assert_eq!(parse_v1("-1\n", "100000\n"), Some(None));
        assert_eq!(parse_v1("50000\n", "100000\n"), Some(Some(MilliCpus(500))));
        for bad in ["", "max", "5", "5 0", "x 1"] {
            assert!(parse_v2(bad).is_none_or(|quota| quota.is_none()), "{bad}");
        }
    }
}
