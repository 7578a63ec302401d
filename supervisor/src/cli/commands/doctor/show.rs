//! The report for people: one line a check, the remedy below it.

use std::fmt::Write as _;

use crate::cli::show::sanitize::one_line;
use crate::cli::show::style::Style;
use crate::doctor::{Report, Verdict};

/// Characters of a detail or a remedy.
const TEXT_CHARS: usize = 400;

/// Draws the report. Pure.
pub(super) fn report(style: Style, report: &Report) -> String {
    let width = report.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let mark = match check.status {
            Verdict::Ok => style.good("✓"),
            Verdict::Warning => style.warn("!"),
            Verdict::Failed => style.bad("✗"),
            Verdict::Skipped => style.dim("-"),
        };
        let detail = one_line(&check.detail.replace('\n', " "), TEXT_CHARS);
        let detail = match check.status {
            Verdict::Skipped => style.dim(format!("skipped: {detail}")),
            Verdict::Ok | Verdict::Warning | Verdict::Failed => detail,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {:<width$}  {detail}", check.name);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(text, "  {:<width$}  → {}", "", one_line(remedy, TEXT_CHARS));
        }
    }
    let counts: Vec<String> = [
        (Verdict::Ok, "ok", "ok"),
        (Verdict::Warning, "warning", "warnings"),
        (Verdict::Failed, "failed", "failed"),
        (Verdict::Skipped, "skipped", "skipped"),
    ]
    .iter()
    .map(|(verdict, one, more)| (report.count(*verdict), one, more))
    .filter(|(count, _, _)| *count > 0)
    .map(|(count, one, more)| format!("{count} {}", if count == 1 { one } else { more }))
    .collect();
    let _ = writeln!(text, "{}", style.bold(counts.join(", ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    #[test]
    fn columns_are_aligned_and_foreign_text_is_tame() {
        let checks = vec![
            Check::ok("engine", "docker"),
            Check::failed("gateway", "exit code 1: \x1b[31mno\nway", "open the firewall"),
            Check::skipped("image", "no engine answers"),
        ];
        let text = report(Style::PLAIN, &Report { checks });
        let expected = "✓ engine   docker\n✗ gateway  exit code 1: ␛[31mno way\n           → open the firewall\n\
                        - image    skipped: no engine answers\n1 ok, 1 failed, 1 skipped\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn one_warning_is_not_several() {
        let warning = || Check::warning("swap", "d", "r");
        let last = |checks| report(Style::PLAIN, &Report { checks }).lines().last().unwrap().to_owned();
        assert_eq!(last(vec![warning()]), "1 warning");
        assert_eq!(last(vec![warning(), warning()]), "2 warnings");
    }

    #[test]
    fn json_is_an_array_of_checks() {
        let checks = vec![Check::warning("swap", "d", "r"), Check::ok("engine", "e")];
        let json = serde_json::to_value(Report { checks }).unwrap();
        let expected = serde_json::json!([
            {"name": "swap", "status": "warning", "detail": "d", "remedy": "r"},
            {"name": "engine", "status": "ok", "detail": "e"}
        ]);
        assert_eq!(json, expected);
    }
}
