//! How a build and an image look: a bar on terminals, plain lines elsewhere, one JSON object per event with `--json`.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::say;
use crate::cli::show::sanitize::one_line;
use crate::cli::show::style::Style;
use crate::image::{Built, ImageStatus, Phase, Progress, Versions};
use crate::units::{format_duration, format_size};

/// Characters of a step's name or of a line of output.
const NAME_CHARS: usize = 100;
/// How often the elapsed time on the bar is drawn anew.
const TICK: Duration = Duration::from_millis(200);
/// Characters of an image's id that people compare: `sha256:` and twelve digits.
const ID_CHARS: usize = 19;

/// What shows the progress of a build.
#[derive(Debug)]
pub(super) struct BuildView {
    form: Form,
    verbose: bool,
    phase: Phase,
}

#[derive(Debug)]
enum Form {
    Json,
    Bar(ProgressBar),
    Plain,
}

impl BuildView {
    pub(super) fn new(json: bool, verbose: bool) -> Self {
        let form = if json {
            Form::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            // The template is a constant that the test below parses; if it were wrong the library's own is used.
            if let Ok(style) = ProgressStyle::with_template(PHASE_TEMPLATE) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            Form::Bar(bar)
        } else {
            Form::Plain
        };
        Self { form, verbose, phase: Phase::Prepare }
    }

    /// Shows a report.
    pub(super) fn take(&mut self, progress: &Progress) {
        if let Progress::Phase { phase, .. } = progress {
            self.phase = *phase;
        }
        match &self.form {
            // Plain data: encoding it cannot fail. Whether anybody reads does not matter to the build.
            Form::Json => drop(say::line(serde_json::to_string(progress).unwrap_or_default())),
            Form::Plain => {
                if let Some(line) = plain(progress, self.phase, self.verbose) {
                    say::aside(line);
                }
            }
            Form::Bar(bar) => on_bar(bar, progress, self.phase, self.verbose),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

const PHASE_TEMPLATE: &str = "{spinner} {wide_msg} {elapsed}";
const STEP_TEMPLATE: &str = "{spinner} {prefix} {wide_msg} {elapsed}";

fn on_bar(bar: &ProgressBar, progress: &Progress, phase: Phase, verbose: bool) {
    match progress {
        Progress::Phase { .. } => {
            if let Ok(style) = ProgressStyle::with_template(PHASE_TEMPLATE) {
                bar.set_style(style);
            }
            bar.reset_elapsed();
            bar.set_message(plain(progress, phase, verbose).unwrap_or_default());
        }
        Progress::Step { number, total, name } => {
            if let Ok(style) = ProgressStyle::with_template(STEP_TEMPLATE) {
                bar.set_style(style);
            }
            bar.reset_elapsed();
            bar.set_prefix(count(*number, *total));
            bar.set_message(one_line(name, NAME_CHARS));
        }
        // The bar shows what runs; steps that took a while are worth a line that stays.
        Progress::StepDone { millis, .. } if *millis < 1000 => {}
        Progress::StepDone { .. } | Progress::Warning { .. } => {
            bar.println(plain(progress, phase, verbose).unwrap_or_default());
        }
        Progress::Line { line } => match phase {
            Phase::Base => bar.set_message(one_line(line, NAME_CHARS)),
            Phase::Prepare | Phase::Build | Phase::Label => {
                if let Some(line) = plain(progress, phase, verbose) {
                    bar.println(line);
                }
            }
        },
    }
}

fn count(number: u32, total: u32) -> String {
    format!("[{number:>2}/{total}]")
}

/// A report as a line; `None` if it is not worth one.
fn plain(progress: &Progress, phase: Phase, verbose: bool) -> Option<String> {
    match progress {
        Progress::Phase { phase, detail } => Some(match phase {
            Phase::Prepare => format!("preparing: {detail}"),
            Phase::Base => format!("base image {detail}"),
            Phase::Build => format!("building {detail}"),
            Phase::Label => format!("labelling: {detail}"),
        }),
        Progress::Step { number, total, name } => {
            Some(format!("{} {}", count(*number, *total), one_line(name, NAME_CHARS)))
        }
        Progress::StepDone { number, total, name, cached: true, .. } => {
            Some(format!("{} {} (cached)", count(*number, *total), one_line(name, NAME_CHARS)))
        }
        Progress::StepDone { number, total, millis, .. } => {
            Some(format!("{} done in {}", count(*number, *total), format_duration(Duration::from_millis(*millis))))
        }
        Progress::Line { line } => {
            let shown = verbose || matches!(phase, Phase::Base);
            shown.then(|| format!("  {}", one_line(line, NAME_CHARS)))
        }
        Progress::Warning { message } => Some(format!("warning: {}", one_line(message, 4 * NAME_CHARS))),
    }
}

/// The end of a build.
pub(super) fn versions_text(style: Style, built: &Built) -> String {
    let mut text = format!(
        "{} {} {} in {}\n",
        style.bold(&built.tag),
        short_id(&built.id),
        format_size(built.size),
        format_duration(built.duration())
    );
    text.push_str(&tools(&built.versions));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", style.dim(format!("log: {}", built.log.display())));
    text
}

/// An image as `aigo image status` shows it.
pub(super) fn status_text(style: Style, status: &ImageStatus) -> String {
    let mut text = match &status.image {
        None => format!("{} {}\n", style.bold(&status.tag), style.bad("absent")),
        Some(image) => {
            let created = image.created.map(|time| format!(", created {time:.0}")).unwrap_or_default();
            let base =
                image.base.as_deref().map(|base| format!(", on {}", one_line(base, NAME_CHARS))).unwrap_or_default();
            let facts = format!("{} {}{created}{base}\n", short_id(&image.id), format_size(image.size));
            format!("{} {facts}{}", style.bold(&status.tag), tools(&image.versions))
        }
    };
    for note in &status.notes {
        let _ = writeln!(text, "{} {}", style.warn("!"), one_line(note, 4 * NAME_CHARS));
    }
    text
}

fn short_id(id: &str) -> String {
    id.chars().take(ID_CHARS).collect()
}

/// The table of tools. Labels can be anybody's: shown escaped.
fn tools(versions: &Versions) -> String {
    let mut text = String::new();
    for (tool, version) in &versions.tools {
        let from = if tool == "python" && !versions.python_source.is_empty() {
            format!(" (by {})", one_line(&versions.python_source, NAME_CHARS))
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {:<8} {}{from}", one_line(tool, NAME_CHARS), one_line(version, NAME_CHARS));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_sound() {
        for template in [PHASE_TEMPLATE, STEP_TEMPLATE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn lines_for_people() {
        let step = Progress::Step { number: 3, total: 21, name: "fetch: RUN a\x1b[31m".into() };
        assert_eq!(plain(&step, Phase::Build, false).unwrap(), "[ 3/21] fetch: RUN a␛[31m");
        let line = Progress::Line { line: "x".into() };
        assert_eq!(plain(&line, Phase::Build, false), None);
        assert!(plain(&line, Phase::Build, true).is_some() && plain(&line, Phase::Base, false).is_some());
        let cached = Progress::StepDone { number: 1, total: 9, name: "n".into(), cached: true, millis: 0 };
        assert_eq!(plain(&cached, Phase::Build, false).unwrap(), "[ 1/9] n (cached)");
    }

    #[test]
    fn a_status_reads_well() {
        let absent = crate::image::status::describe("t:1", None);
        let text = status_text(Style::PLAIN, &absent);
        assert_eq!(text, "t:1 absent\n! image t:1 is not present; build it with: aigo image build --tag t:1\n");
    }
}
