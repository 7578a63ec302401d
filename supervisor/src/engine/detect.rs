//! Which engine to use: what the person chose, or the first one that answers.

use std::str::FromStr;
use std::sync::Arc;

use super::docker::{DockerEngine, Endpoint, HostEnv};
use super::info::UnknownBackend;
use super::{Backend, EngineError, SharedEngine};

/// The variable that chooses an engine where no flag does.
pub const ENGINE_VARIABLE: &str = "AIGO_ENGINE";

/// A choice of engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first of [`Backend::ALL`] that answers and is good enough.
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

/// Connects to the chosen engine.
///
/// # Errors
/// The chosen engine's own; for [`Choice::Auto`] the one of the first backend, which is the most likely to be meant.
pub async fn connect(choice: Choice, env: &HostEnv) -> Result<SharedEngine, EngineError> {
    match choice {
        Choice::Only(backend) => connect_to(backend, env).await,
        Choice::Auto => {
            let mut first_error = None;
            for backend in Backend::ALL {
                match connect_to(backend, env).await {
                    Ok(engine) => return Ok(engine),
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            Err(first_error.unwrap_or(EngineError::Unreachable {
                endpoint: "any address".to_owned(),
                reason: "no backend is built in".to_owned(),
                remedy: "install Docker 24.0 or newer",
            }))
        }
    }
}

async fn connect_to(backend: Backend, env: &HostEnv) -> Result<SharedEngine, EngineError> {
    match backend {
        Backend::Docker => Ok(Arc::new(DockerEngine::connect(Endpoint::find(env)?).await?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_parsed() {
        assert_eq!("auto".parse::<Choice>().unwrap(), Choice::Auto);
        assert_eq!("docker".parse::<Choice>().unwrap(), Choice::Only(Backend::Docker));
        let text = "dokker".parse::<Choice>().unwrap_err().to_string();
        assert!(text.contains("dokker") && text.contains("docker"), "{text}");
    }

    #[tokio::test]
    async fn no_engine_says_what_to_do() {
        let env = HostEnv { docker_host: Some("unix:///nonexistent/docker.sock".into()), ..HostEnv::default() };
        let text = connect(Choice::Auto, &env).await.unwrap_err().to_string();
        assert!(text.contains("/nonexistent/docker.sock") && text.contains("DOCKER_HOST"), "{text}");
    }
}
