//! Which engine to use: what the person chose, or the first one that answers.

use std::str::FromStr;
use std::sync::Arc;

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

/// A place to ask, and who has to answer there (`None`: whoever it is).
type Candidate = (Option<Backend>, Result<Endpoint, EngineError>);

/// Where engines may be, in the order in which they are asked. An address that somebody set is the only one.
fn candidates(choice: Choice, env: &HostEnv) -> Vec<Candidate> {
    let docker = |wanted| vec![(wanted, Endpoint::find(env))];
    let podman = |wanted| Endpoint::of_podman(env).into_iter().map(move |endpoint| (wanted, endpoint)).collect();
    match choice {
        Choice::Only(Backend::Docker) => docker(Some(Backend::Docker)),
        Choice::Only(Backend::Podman) => podman(Some(Backend::Podman)),
        Choice::Auto if env.docker_host.is_some() => docker(None),
        Choice::Auto if env.container_host.is_some() => podman(None),
        Choice::Auto => {
            let podman: Vec<Candidate> = podman(None);
            docker(None).into_iter().chain(podman).collect()
        }
    }
}

/// Connects to the chosen engine: for [`Choice::Auto`] what `DOCKER_HOST` names, else what `CONTAINER_HOST` names, else the
/// first that answers of Docker's context or socket, one's own Podman socket, and the system's.
///
/// # Errors
/// The first candidate's own, unless a later one is there but cannot be used: then that one's.
pub async fn connect(choice: Choice, env: &HostEnv) -> Result<SharedEngine, EngineError> {
    let mut worst = None;
    for (wanted, endpoint) in candidates(choice, env) {
        let error = match connect_to(wanted, endpoint, env).await {
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
        remedy: "install Docker 24.0 or newer, or Podman 4.3 or newer",
    }))
}

async fn connect_to(
    wanted: Option<Backend>,
    endpoint: Result<Endpoint, EngineError>,
    env: &HostEnv,
) -> Result<SharedEngine, EngineError> {
    Ok(Arc::new(DockerEngine::connect(endpoint?, wanted, env.program.clone()).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_parsed() {
        assert_eq!("auto".parse::<Choice>().unwrap(), Choice::Auto);
        assert_eq!("docker".parse::<Choice>().unwrap(), Choice::Only(Backend::Docker));
        assert_eq!("podman".parse::<Choice>().unwrap(), Choice::Only(Backend::Podman));
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
            candidates(choice, env).into_iter().map(|(_, endpoint)| endpoint.unwrap().to_string()).collect()
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
        let container = HostEnv { container_host: both.container_host, ..env };
        assert_eq!(asked(Choice::Auto, &container), ["unix:///p.sock"]);
        assert_eq!(asked(Choice::Only(Backend::Docker), &container), [docker]);
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
