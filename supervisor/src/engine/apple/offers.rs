//! What the installed version offers, by its own help. Options came one by one from 0.2 to 1.x, and `network` is only there
//! on macOS 26.

use std::collections::BTreeSet;

use super::cli::{Answer, Cli};
use crate::engine::{EngineError, deadline};

/// Options that a version has or has not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offers {
    /// Of `container create`.
    create: BTreeSet<String>,
    /// Of `container network create`; `None` without that command.
    network: Option<BTreeSet<String>>,
}

pub(super) async fn ask(cli: &Cli) -> Result<Offers, EngineError> {
    let create = cli.ask("list its options", deadline::DETECT, &["create", "--help"]).await?;
    let network = cli.run("list its options", deadline::DETECT, &["network", "create", "--help"]).await?;
    Ok(Offers { create: options(&create), network: network.is_good().then(|| options(&network)) })
}

/// Every word of the form `--name` in a help text.
fn options(answer: &Answer) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(&answer.stdout);
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.len() > 2 && word.starts_with("--")).map(str::to_owned).collect()
}

impl Offers {
    pub(super) fn create(&self, option: &str) -> bool {
        self.create.contains(option)
    }

    pub(super) fn networks(&self) -> bool {
        self.network.is_some()
    }

    pub(super) fn network(&self, option: &str) -> bool {
        self.network.as_ref().is_some_and(|options| options.contains(option))
    }

    /// With these options, for tests.
    #[cfg(test)]
    pub(super) fn of(create: &[&str], network: Option<&[&str]>) -> Self {
        let set = |options: &[&str]| options.iter().map(ToString::to_string).collect();
        Self { create: set(create), network: network.map(set) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_a_help_text() {
        let text = "OPTIONS:\n  -e, --env <env>         Set variables\n  --cap-drop <cap> Drop [--x]\n  a--b\n  --\n";
        let answer = Answer { code: Some(0), stdout: text.into(), truncated: false, stderr: Vec::new() };
        assert_eq!(options(&answer).into_iter().collect::<Vec<_>>(), ["--cap-drop", "--env", "--x"]);
    }
}
