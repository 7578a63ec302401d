//! One reason against a request, said so that both people at a terminal and programs find what it is about.

use std::fmt;

/// What of a request a reason is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The whole.
    Request,
    /// The user's folder.
    Workspace,
    /// The folder of the mount with this index.
    Mount(usize),
    /// The name of the mount with this index.
    MountName(usize),
    /// The image.
    Image,
    /// The limit on CPUs.
    Cpus,
    /// The limit on memory.
    Memory,
    /// The limit on processes.
    Pids,
    /// The variable of this name.
    Env(String),
    /// The program.
    Argv,
    /// The prompt.
    Prompt,
    /// The file that a model is answered from, or recorded to.
    ModelFile,
}

impl Field {
    /// Where it is in a request of the API, as a JSON pointer (RFC 6901); empty for the whole.
    pub fn pointer(&self) -> String {
        match self {
            Self::Request => String::new(),
            Self::Workspace => "/workspace".to_owned(),
            Self::Mount(index) => format!("/mounts/{index}/hostPath"),
            Self::MountName(index) => format!("/mounts/{index}/name"),
            Self::Image => "/image".to_owned(),
            Self::Cpus => "/limits/cpus".to_owned(),
            Self::Memory => "/limits/memoryBytes".to_owned(),
            Self::Pids => "/limits/pids".to_owned(),
            Self::Env(name) => format!("/env/{}", name.replace('~', "~0").replace('/', "~1")),
            Self::Argv => "/program/argv".to_owned(),
            Self::Prompt => "/prompt".to_owned(),
            Self::ModelFile => "/model/file".to_owned(),
        }
    }

    /// The flag of `aigo run` with whose value the detail begins.
    fn flag(&self) -> Option<&'static str> {
        match self {
            Self::Cpus => Some("--cpus"),
            Self::Memory => Some("--memory"),
            Self::Pids => Some("--pids"),
            Self::Env(_) => Some("--env"),
            Self::Request
            | Self::Workspace
            | Self::Mount(_)
            | Self::MountName(_)
            | Self::Image
            | Self::Argv
            | Self::Prompt
            | Self::ModelFile => None,
        }
    }
}

/// Why not. Displayed as a sentence for people at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What it is about.
    pub field: Field,
    /// What is wrong with it, and the remedy; without the field's own name.
    pub detail: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.flag() {
            Some(flag) => write!(f, "{flag} {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}
