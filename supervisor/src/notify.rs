//! Words to the service manager: sd_notify(3). Without one (no `NOTIFY_SOCKET`) they go nowhere.
//!
//! ```text
//!   start ──► ready ──► (reloading ──► ready)* ──► stopping
//!               └── watchdog: a beat at a time, only while the probe says that the service is well
//! ```

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Beats in the manager's time: sd_watchdog_enabled(3) asks for two at least; a third forgives a busy moment.
const BEATS: u32 = 3;

/// The service serves. Said again after a reload.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What it does now, in one line for `systemctl status`.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It reads its configuration again; [`ready`] ends that, also when the old one stays in force.
pub fn reloading() {
    // The time is for managers that match it with their own request (Type=notify-reload).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("the service manager is not told of the reload: no clock: {error}"),
    }
}

/// It ends.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// Shows the manager that the service is well, until `stop`. Without a watchdog (`WatchdogSec=`) it only waits.
///
/// `probe` is to go where the service's own work goes (such as through its store): a beat is sent only when it has answered
/// `true` within the time of a beat, so that a service that hangs is started anew.
pub async fn watchdog(probe: impl AsyncFn() -> bool, stop: CancellationToken) {
    match sd_notify::watchdog_enabled() {
        Some(limit) if !limit.is_zero() => {
            let beats = beat(limit / BEATS, probe, || tell(&[NotifyState::Watchdog]));
            stop.run_until_cancelled(beats).await;
        }
        Some(_) | None => stop.cancelled().await,
    }
}

async fn beat(every: Duration, probe: impl AsyncFn() -> bool, mut send: impl FnMut()) {
    // tokio refuses an interval of nothing.
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    // After a host that slept, one beat is enough.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(every, probe()).await {
            Ok(true) => send(),
            Ok(false) => tracing::error!("the service is not well: no word to the watchdog"),
            Err(_) => tracing::error!("the service does not answer within {every:?}: no word to the watchdog"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const EVERY: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_well_beats() {
        let sent = Cell::new(0);
        let beats = beat(EVERY, async || true, || sent.set(sent.get() + 1));
        let _ = timeout(Duration::from_secs(35), beats).await;
        assert_eq!(sent.get(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_or_is_ill_does_not() {
        let sent = Cell::new(0);
        let hangs = beat(EVERY, async || std::future::pending().await, || sent.set(sent.get() + 1));
        let _ = timeout(Duration::from_secs(60), hangs).await;
        let ill = beat(EVERY, async || false, || sent.set(sent.get() + 1));
        let _ = timeout(Duration::from_secs(60), ill).await;
        assert_eq!(sent.get(), 0);
    }

    #[tokio::test]
    async fn it_ends_when_told() {
        let stop = CancellationToken::new();
        stop.cancel();
        timeout(EVERY, watchdog(async || true, stop)).await.unwrap();
    }
}
