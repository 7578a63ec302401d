//! The flags, typed. Values are checked here, so that an error names the flag, the value and what is allowed.

pub mod agents;
pub mod config;
pub mod queue;
pub mod records;
pub mod serve;
pub mod service;

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::agents::{AgentName, InvalidAgentName};
use crate::config::DATA_DIR_VARIABLE;
use crate::engine::detect::{Choice, ENGINE_VARIABLE};
use crate::request::{DEFAULT_IMAGE, DEFAULT_PIDS, DEFAULT_PROXY_PORT, MountRequest};
use crate::units::{MilliCpus, parse_cpus, parse_duration, parse_grace, parse_size};

/// Let coding agents work on a real folder, in a container with limits, without your keys.
#[derive(Debug, Parser)]
#[command(name = "aigo", version, propagate_version = true, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "First use:\n  aigo image build\n  aigo run -w ./my-project \"make the tests pass\"\n\n\
                        If something does not work, `aigo doctor` says what and how to mend it.")]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Where aigo keeps its database and sessions [default: $XDG_DATA_HOME/aigo]
    #[arg(long, global = true, value_name = "DIR", env = DATA_DIR_VARIABLE, help_heading = "Global options")]
    pub data_dir: Option<PathBuf>,
    /// The container engine: auto, docker, podman or apple; auto takes the first that answers
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        env = ENGINE_VARIABLE,
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub engine: Choice,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    pub color: ColorChoice,
    /// Say more about what aigo itself does, on standard error; twice for debugging
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On terminals, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Let an agent work on a folder, and watch and steer it
    Run(Box<RunArgs>),
    /// List sessions that run, or all with --all
    Ps(PsArgs),
    /// Show a session's transcript
    Logs(LogsArgs),
    /// List what ran, with its reason, duration and tokens
    History(records::HistoryArgs),
    /// Show all that is known of one session but its transcript
    Show(records::ShowArgs),
    /// Write a session's transcript into a file
    Export(records::ExportArgs),
    /// End a session: gracefully, then by force
    Stop(StopArgs),
    /// List requests that wait for room, or take one out
    Queue(queue::QueueArgs),
    /// List agents with their limits and what of these is enforced, or set them
    Agents(agents::AgentsArgs),
    /// List who asked the service for what, and what was decided
    Audit(agents::AuditArgs),
    /// Send a message to a running session
    Send(SendArgs),
    /// Stop the current turn of a running session; the session goes on
    Interrupt(SessionArg),
    /// Build and inspect the image that agents run in
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Own sessions as a service, with an HTTP API, until stopped
    Serve(serve::ServeArgs),
    /// Check everything that can break a first run, and say how to mend it
    Doctor(DoctorArgs),
    /// Check and show the configuration of the service
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Install, remove and look at the service that runs `aigo serve`
    Service {
        #[command(subcommand)]
        command: service::ServiceCommand,
    },
    /// Listen inside the networks of a rootless engine, for another aigo
    #[command(hide = true, name = "hand-over-listener")]
    HandOverListener {
        /// Where
        address: SocketAddrV4,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  aigo completions bash > /etc/bash_completion.d/aigo")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `aigo run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    aigo run -w ./my-project \"make the tests pass\"\n  \
    git diff | aigo run --prompt-file - --memory 2g --timeout 10m\n  \
    aigo run --replay script.jsonl \"try it without spending tokens\"\n  \
    aigo run --program command -- ./build.sh --all\n\n\
    On a terminal, typed lines go to the agent while it works. Ctrl-C interrupts its turn, a second one closes the\n\
    session, a third kills it. Without a terminal the first interrupts and closes, and the second kills.\n\n\
    Exit codes: 0 completed, 1 the agent failed, 2 wrong usage, 3 engine, image or credential missing,\n\
    4 out of memory or processes, 124 timeout, 130 cancelled.")]
pub struct RunArgs {
    /// What the agent is to do
    #[arg(value_name = "PROMPT", conflicts_with = "prompt_file")]
    pub prompt: Option<String>,
    /// The program and its arguments, for `--program command`
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Read the prompt from a file, or from standard input with `-`
    #[arg(short = 'f', long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// The folder that the agent works on
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub workspace: PathBuf,
    /// The agent may only read the folder
    #[arg(long)]
    pub workspace_read_only: bool,
    /// Mount another folder at /workspace/extra/NAME, read-only unless `:rw`
    #[arg(long = "mount", value_name = "DIR[:NAME][:ro|:rw]", value_parser = parse_mount)]
    pub mounts: Vec<MountRequest>,
    /// Set an environment variable for the agent; without a value, take it from aigo's own environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,

    /// What runs in the container
    #[arg(long, value_enum, default_value_t, help_heading = "Agent")]
    pub program: ProgramChoice,
    /// On whose account: the agent whose limits the service holds the session to [default: default]
    #[arg(long, value_name = "NAME", value_parser = parse_agent, help_heading = "Limits")]
    pub agent: Option<AgentName>,
    /// The model, by alias (opus, sonnet, haiku) or id
    #[arg(long, value_name = "MODEL", help_heading = "Agent")]
    pub model: Option<String>,
    /// The most model turns for one message
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Agent")]
    pub max_turns: Option<u32>,
    /// Text added to the system prompt
    #[arg(long, value_name = "TEXT", help_heading = "Agent")]
    pub append_system_prompt: Option<String>,
    /// Honour the project's .claude/settings.json; it can run hooks and redirect the model's traffic
    #[arg(long, help_heading = "Agent")]
    pub project_settings: bool,
    /// How the output of `--program command` is read
    #[arg(long, value_enum, default_value_t, help_heading = "Agent")]
    pub command_output: CommandOutputChoice,
    /// Leave the session to the service that runs here, and print its id
    #[arg(short, long, conflicts_with_all = ["steer", "json", "output"], help_heading = "Output")]
    pub detach: bool,
    /// Keep the session open after the first answer, for more messages
    #[arg(short, long, help_heading = "Agent")]
    pub keep_open: bool,
    /// Run the agent as root of the container instead of as the folder's owner
    #[arg(long, help_heading = "Agent")]
    pub root: bool,

    /// The image
    #[arg(short, long, value_name = "TAG", default_value = DEFAULT_IMAGE, help_heading = "Limits")]
    pub image: String,
    /// CPUs, such as 2 or 0.5 [default: 2, or all of a smaller host]
    #[arg(long, value_name = "N", value_parser = parse_cpus, help_heading = "Limits")]
    pub cpus: Option<MilliCpus>,
    /// Memory, without swap, such as 512m or 4g
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size, default_value = "4g", help_heading = "Limits")]
    pub memory: u64,
    /// Processes and threads
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PIDS, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Limits")]
    pub pids: u32,
    /// Longest life of the session, such as 90s or 2h30m; 0 for none
    #[arg(short, long, value_name = "TIME", value_parser = parse_limit, default_value = "30m", help_heading = "Limits")]
    pub timeout: TimeLimit,
    /// Longest silence with nothing in flight and nobody at the terminal; 0 for none
    #[arg(long, value_name = "TIME", value_parser = parse_limit, default_value = "0", help_heading = "Limits")]
    pub idle_timeout: TimeLimit,
    /// At a timeout: time for the agent to save its work
    #[arg(long, value_name = "TIME", value_parser = parse_grace, default_value = "30s", help_heading = "Limits")]
    pub save_grace: Duration,
    /// At a timeout: time from the close signal to SIGTERM
    #[arg(long, value_name = "TIME", value_parser = parse_grace, default_value = "10s", help_heading = "Limits")]
    pub close_grace: Duration,
    /// Time from SIGTERM to kill
    #[arg(long, value_name = "TIME", value_parser = parse_grace, default_value = "10s", help_heading = "Limits")]
    pub term_grace: Duration,

    /// Keep the model traffic in a file, credentials scrubbed
    #[arg(long, value_name = "FILE", conflicts_with = "replay", help_heading = "Model traffic")]
    pub record: Option<PathBuf>,
    /// Answer from a recording or a script instead of the model; needs no credential
    #[arg(long, value_name = "FILE", help_heading = "Model traffic")]
    pub replay: Option<PathBuf>,
    /// Allow an ANTHROPIC_BASE_URL with plain http beyond loopback
    #[arg(long, help_heading = "Model traffic")]
    pub allow_plain_http: bool,
    /// Port of the credential proxy on the session network's gateway
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PROXY_PORT, value_parser = clap::value_parser!(u16).range(1..), help_heading = "Model traffic")]
    pub proxy_port: u16,

    /// What is printed: the transcript, one JSON object at the end, or one JSON object per event
    #[arg(short, long, value_enum, default_value_t, help_heading = "Output")]
    pub output: OutputFormat,
    /// Same as --output json
    #[arg(long, conflicts_with = "output", help_heading = "Output")]
    pub json: bool,
    /// Read lines from standard input as messages even if it is not a terminal
    #[arg(long, help_heading = "Output")]
    pub steer: bool,
}

/// A time limit that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub Option<Duration>);

fn parse_limit(text: &str) -> Result<TimeLimit, crate::units::BadUnit> {
    parse_duration(text).map(TimeLimit)
}

fn parse_agent(text: &str) -> Result<AgentName, InvalidAgentName> {
    text.parse()
}

/// What runs in the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgramChoice {
    /// Claude Code
    #[default]
    Claude,
    /// Any program in the image, given after `--`
    Command,
}

/// How a command's output is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CommandOutputChoice {
    /// Each line is text
    #[default]
    Lines,
    /// Each line is a JSON object
    Json,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A transcript for people
    #[default]
    Text,
    /// One JSON object at the end
    Json,
    /// One JSON object per event
    StreamJson,
}

/// `aigo interrupt`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo interrupt 3fk2")]
pub struct SessionArg {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo ps`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo ps\n  aigo ps --all --json")]
pub struct PsArgs {
    /// Show sessions that have ended, too
    #[arg(short, long)]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo logs --follow 3fk2\n  aigo logs --json 3fk2 | jq -r .kind")]
pub struct LogsArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// Wait for more until the session ends
    #[arg(short, long)]
    pub follow: bool,
    /// Print one JSON object per event
    #[arg(long)]
    pub json: bool,
}

/// `aigo stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo stop 3fk2\n  aigo stop --grace 2m 3fk2\n  aigo stop --all --kill")]
pub struct StopArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION", required_unless_present = "all")]
    pub session: Option<String>,
    /// All sessions that run
    #[arg(long, conflicts_with = "session")]
    pub all: bool,
    /// How long the agent may take to finish before it is ended by force
    #[arg(short, long, value_name = "TIME", value_parser = parse_grace, default_value = "30s")]
    pub grace: Duration,
    /// Do not ask, kill
    #[arg(short, long)]
    pub kill: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo send`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo send 3fk2 \"leave the tests as they are\"")]
pub struct SendArgs {
    /// The session's id, or its beginning
    #[arg(value_name = "SESSION")]
    pub session: String,
    /// The message
    #[arg(value_name = "TEXT")]
    pub text: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo image …`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build the image
    Build(ImageBuildArgs),
    /// Say whether the image is there, and what is in it
    Status(ImageStatusArgs),
}

/// `aigo image build`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  aigo image build\n  aigo image build --ca company-ca.pem --tag aigo-agent-runner:work"
)]
pub struct ImageBuildArgs {
    /// The tag to give
    #[arg(short, long, value_name = "TAG", default_value = DEFAULT_IMAGE)]
    pub tag: String,
    /// The base image; made from Debian's archive where it is neither present nor pullable
    #[arg(long, value_name = "TAG", default_value = "debian:trixie-slim")]
    pub base: String,
    /// Build every step anew
    #[arg(long)]
    pub no_cache: bool,
    /// A CA certificate (PEM) that the image is to trust; the host's own extra ones are found by themselves
    #[arg(long = "ca", value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// A static aigo-runner to put in, instead of building it
    #[arg(long, value_name = "FILE")]
    pub runner: Option<PathBuf>,
    /// Print JSON: one object per event, the last with the result
    #[arg(long)]
    pub json: bool,
}

/// `aigo image status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo image status\n  aigo image status --json")]
pub struct ImageStatusArgs {
    /// The tag to look for
    #[arg(short, long, value_name = "TAG", default_value = DEFAULT_IMAGE)]
    pub tag: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `aigo doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  aigo doctor\n  aigo doctor --json")]
pub struct DoctorArgs {
    /// The image that runs would use
    #[arg(short, long, value_name = "TAG", default_value = DEFAULT_IMAGE)]
    pub image: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads `DIR[:NAME][:ro|:rw]`.
fn parse_mount(text: &str) -> Result<MountRequest, String> {
    const ALLOWED: &str = "use DIR, DIR:NAME, DIR:rw or DIR:NAME:rw; NAME is one word under /workspace/extra";
    let bad = || format!("`{text}` is not a mount: {ALLOWED}");
    let mut parts: Vec<&str> = text.split(':').collect();
    let read_only = match parts.last() {
        Some(&"rw") => {
            parts.pop();
            false
        }
        Some(&"ro") => {
            parts.pop();
            true
        }
        Some(_) | None => true,
    };
    let (host, name) = match parts[..] {
        [host] => (host, None),
        [host, name] => (host, Some(name)),
        _ => return Err(bad()),
    };
    if host.is_empty() {
        return Err(bad());
    }
    let host = PathBuf::from(host);
    let name = match name {
        Some(name) => name.to_owned(),
        None => {
            let real = host.canonicalize().unwrap_or_else(|_| host.clone());
            real.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?.to_owned()
        }
    };
    crate::policy::path::check_name(&name).map_err(|error| format!("`{text}`: {error}"))?;
    Ok(MountRequest { host, name, read_only })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn mounts() {
        let mount =
            |host: &str, name: &str, read_only| MountRequest { host: host.into(), name: name.into(), read_only };
        assert_eq!(parse_mount("/data"), Ok(mount("/data", "data", true)));
        assert_eq!(parse_mount("/data:rw"), Ok(mount("/data", "data", false)));
        assert_eq!(parse_mount("/data:d:rw"), Ok(mount("/data", "d", false)));
        assert_eq!(parse_mount("/data:d:ro"), Ok(mount("/data", "d", true)));
        for bad in ["", ":d", "/a:b:c", "/a:b:c:rw", "/a:../x", "/a:", "/"] {
            let error = parse_mount(bad).unwrap_err();
            assert!(error.contains(&format!("`{bad}`")), "{error}");
        }
    }

    #[test]
    fn errors_name_the_flag_the_value_and_what_is_allowed() {
        for (flag, value, allowed) in [
            ("--memory", "5x", "512m"),
            ("--timeout", "soon", "2h30m"),
            ("--cpus", "many", "0.5"),
            ("--mount", "/a:b:c", "DIR:NAME"),
            ("--pids", "0", "1.."),
            ("--agent", "My Agent", "lower-case letters"),
            ("--program", "gpt", "command"),
        ] {
            let error = Args::try_parse_from(["aigo", "run", flag, value, "x"]).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value) && error.contains(allowed), "{error}");
        }
    }
}
