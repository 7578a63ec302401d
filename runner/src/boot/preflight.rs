//! Phase 6: the credential proxy answers from inside the container, so that a network fault is one sentence at the start
//! and not three minutes of the agent's retries.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Phase;
use crate::http::{GetError, Url, get};

/// How long the proxy may need until it answers and knows this container's address.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long it may be that nobody listens yet: with rootless Podman the host enters the network's namespace once this container
/// runs, and may take 30 s for that on a loaded machine.
const LISTENING: Duration = Duration::from_secs(40);

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

const OK: u16 = 200;

pub(super) async fn check(url: &str) -> Result<Phase, String> {
    let parsed: Url = url.parse().map_err(|error: GetError| error.to_string())?;
    let began = Instant::now();
    loop {
        let answer = get(&parsed).await;
        if matches!(answer, Ok(OK)) {
            return Ok(Phase::Done);
        }
        let patience = if matches!(answer, Err(GetError::Refused(_))) { LISTENING } else { DEADLINE };
        if began.elapsed() >= patience {
            return Err(format!("the credential proxy cannot be used: {}", explain(url, &answer)));
        }
        sleep(PAUSE).await;
    }
}

/// What is wrong, and what may mend it.
pub(crate) fn explain(url: &str, answer: &Result<u16, GetError>) -> String {
    match answer {
        Ok(403) => format!("{url} answered 403: it does not know this container's address"),
        Ok(status) => format!("{url} answered {status}"),
        Err(error @ GetError::Silent(_)) => format!(
            "{error}: a firewall of the host seems to drop packets from the container network to its gateway; \
             allow them (with ufw: ufw allow in on the network's bridge)"
        ),
        Err(error @ GetError::Refused(_)) => {
            format!("{error}: is aigo still running, and bound to the container network's gateway?")
        }
        Err(
            error @ (GetError::BadUrl(_) | GetError::UnknownHost(_) | GetError::Unreachable(..) | GetError::NotHttp(_)),
        ) => error.to_string(),
    }
}
