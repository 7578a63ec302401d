//! Which engine to use: what the person chose, or the first one that answers.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use super::apple::{self, AppleEngine};
use super::docker::{DockerEngine, Endpoint, HostEnv};
use super::info::UnknownBackend;
use super::{Backend, EngineError, SharedEngine};

/// The variable that chooses an engine where no flag does (`--engine` reads it).
pub const ENGINE_VARIABLE: &str = "AIGO_ENGINE";

/// A choice of engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first that answers and is good enough, see [`connect`].
    #[default]
    Auto,
    Only(Backend),
}

impl FromStr for Choice {
    type Err = UnknownBackend;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        match value {
            "auto" => Ok(Choice::Auto),
            name => name.parse().map(Choice::Only),
        }
    }
}

/// A place to ask.
#[derive(Debug, PartialEq, Eq)]
enum Candidate {
    /// An address in Docker's API, and who has to answer there (`None`: whoever it is).
    Api(Option<Backend>, Result<Endpoint, EngineError>),
    /// Apple Container, by its command.
    Apple {
        program: Result<PathBuf, EngineError>,
        /// It was not chosen: it is passed over if it cannot make the networks that sessions need.
        auto: bool,
    },
}

/// Where engines may be, in the order in which they are asked. An address that somebody set is the only one.
fn candidates(choice: Choice, env: &HostEnv) -> Vec<Candidate> {
    let docker = |wanted| vec![Candidate::Api(wanted, Endpoint::find(env))];
    let podman = |wanted| -> Vec<Candidate> {
        Endpoint::of_podman(env).into_iter().map(|endpoint| Candidate::Api(wanted, endpoint)).collect()
    };
    let apple = |auto| Candidate::Apple { program: apple::program(&env.apple), auto };
    match choice {
        Choice::Only(Backend::Docker) => docker(Some(Backend::Docker)),
        Choice::Only(Backend::Podman) => podman(Some(Backend::Podman)),
        Choice::Only(Backend::AppleContainer) => vec![apple(false)],
        Choice::Auto if env.docker_host.is_some() => docker(None),
        Choice::Auto if env.container_host.is_some() => podman(None),
        Choice::Auto => {
            let first = env.apple.is_preferred().then(|| apple(true));
            first.into_iter().chain(docker(None)).chain(podman(None)).collect()
        }
    }
}

/// Connects to the chosen engine: for [`Choice::Auto`] what `DOCKER_HOST` names, else what `CONTAINER_HOST` names, else the
/// first that answers and can serve sessions of Apple Container (where it is preferred: [`Place`](apple::place::Place)),
/// Docker's context or socket, one's own Podman socket, and the system's.
///
/// # Errors
/// The first candidate's own, unless a later one is there but cannot be used: then that one's.
pub async fn connect(choice: Choice, env: &HostEnv) -> Result<SharedEngine, EngineError> {
    let mut worst = None;
    for candidate in candidates(choice, env) {
        let error = match connect_to(candidate, env).await {
            Ok(engine) => return Ok(engine),
            Err(error) => error,
        };
        let is_there = |error: &EngineError| !matches!(error, EngineError::Unreachable { .. });
        match &worst {
            Some(known) if is_there(known) || !is_there(&error) => {}
            Some(_) | None => worst = Some(error),
        }
    }
    Err(worst.unwrap_or_else(|| EngineError::Unreachable {
        endpoint: "any address".to_owned(),
        reason: "there is none to ask".to_owned(),
        remedy: "install Docker 24.0 or newer, Podman 4.3 or newer, or Apple Container 0.2 or newer",
    }))
}

async fn connect_to(candidate: Candidate, env: &HostEnv) -> Result<SharedEngine, EngineError> {
    match candidate {
        Candidate::Api(wanted, endpoint) => Ok(Arc::new(DockerEngine::connect(endpoint?, wanted, env).await?)),
        Candidate::Apple { program, auto } => {
            let engine = AppleEngine::connect(program?).await?;
            if auto {
                engine.check_networks()?;
            }
            Ok(Arc::new(engine))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::apple::place::Place;

    #[test]
    fn choices_are_parsed() {
        assert_eq!("auto".parse::<Choice>().unwrap(), Choice::Auto);
        assert_eq!("docker".parse::<Choice>().unwrap(), Choice::Only(Backend::Docker));
        assert_eq!("podman".parse::<Choice>().unwrap(), Choice::Only(Backend::Podman));
        for name in ["apple", "apple_container"] {
            assert_eq!(name.parse::<Choice>().unwrap(), Choice::Only(Backend::AppleContainer));
        }
        let text = "dokker".parse::<Choice>().unwrap_err().to_string();
        assert!(text.contains("dokker") && text.contains("docker"), "{text}");
    }

    #[tokio::test]
    async fn no_engine_says_what_to_do() {
        let env = HostEnv { docker_host: Some("unix:///nonexistent/docker.sock".into()), ..HostEnv::default() };
        let text = connect(Choice::Auto, &env).await.unwrap_err().to_string();
        assert!(text.contains("/nonexistent/docker.sock") && text.contains("DOCKER_HOST"), "{text}");
    }

    #[test]
    fn an_address_that_was_set_is_the_only_one() {
        let env = HostEnv { runtime_dir: Some("/run/user/7".into()), ..HostEnv::default() };
        let asked = |choice, env: &HostEnv| -> Vec<String> {
            let place = |candidate| match candidate {
                Candidate::Api(_, endpoint) => endpoint.unwrap().to_string(),
                Candidate::Apple { program, .. } => program.unwrap().display().to_string(),
            };
            candidates(choice, env).into_iter().map(place).collect()
        };
        let (docker, podman) = ("unix:///var/run/docker.sock", "unix:///run/podman/podman.sock");
        let own = "unix:///run/user/7/podman/podman.sock";
        assert_eq!(asked(Choice::Auto, &env), [docker, own, podman]);
        let both = HostEnv {
            docker_host: Some("unix:///d.sock".into()),
            container_host: Some("unix:///p.sock".into()),
            ..env.clone()
        };
        assert_eq!(asked(Choice::Auto, &both), ["unix:///d.sock"]);
        assert_eq!(asked(Choice::Only(Backend::Podman), &both), ["unix:///p.sock"]);
        let container = HostEnv { container_host: both.container_host.clone(), ..env.clone() };
        assert_eq!(asked(Choice::Auto, &container), ["unix:///p.sock"]);
        assert_eq!(asked(Choice::Only(Backend::Docker), &container), [docker]);
        // On a Mac: first, unless an address was set, or the system is too old.
        let command = "/usr/local/bin/container";
        let mac = |macos| Place { macos: Some(macos), apple_silicon: true, program: Some(command.into()) };
        let on = |macos, env: &HostEnv| HostEnv { apple: mac(macos), ..env.clone() };
        assert_eq!(asked(Choice::Auto, &on(15, &env)), [command, docker, own, podman]);
        assert_eq!(asked(Choice::Auto, &on(14, &env)), [docker, own, podman]);
        assert_eq!(asked(Choice::Auto, &on(26, &container)), ["unix:///p.sock"]);
        assert_eq!(asked(Choice::Auto, &on(26, &both)), ["unix:///d.sock"]);
        assert_eq!(asked(Choice::Only(Backend::AppleContainer), &on(26, &both)), [command]);
        assert_eq!(asked(Choice::Only(Backend::Docker), &on(26, &env)), [docker]);
    }

    #[tokio::test]
    async fn apple_container_elsewhere_says_where_it_runs() {
        let error = connect(Choice::Only(Backend::AppleContainer), &HostEnv::default()).await.unwrap_err().to_string();
        assert!(error.contains("macOS only") && error.contains("install Apple Container"), "{error}");
        let mac = Place { macos: Some(26), apple_silicon: true, program: None };
        let env = HostEnv { apple: mac, ..HostEnv::default() };
        let error = connect(Choice::Only(Backend::AppleContainer), &env).await.unwrap_err().to_string();
        assert!(error.contains("not installed") && error.contains("container system start"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_that_is_there_but_cannot_be_used_is_what_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let env = HostEnv { docker_config: Some(folder.path().into()), ..HostEnv::default() };
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        let error = connect(Choice::Auto, &env).await.err();
        // Unless an engine of this host answers.
        assert!(error.is_none_or(|error| matches!(error, EngineError::BadEndpoint { .. })));
    }
}
