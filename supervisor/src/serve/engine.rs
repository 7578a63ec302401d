//! The engine of a daemon: it may be away when the daemon starts, and come and go.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::engine::detect::{Choice, connect};
use crate::engine::docker::HostEnv;
use crate::engine::{EngineError, EngineInfo, SharedEngine};

/// Connects when somebody asks, and keeps what answered.
#[derive(Clone, Debug)]
pub struct EngineSlot {
    choice: Choice,
    env: HostEnv,
    connected: Arc<Mutex<Option<SharedEngine>>>,
}

impl EngineSlot {
    /// Nothing is asked yet.
    pub fn new(choice: Choice, env: HostEnv) -> Self {
        Self { choice, env, connected: Arc::default() }
    }

    /// A given engine.
    pub fn of(engine: SharedEngine) -> Self {
        let connected = Arc::new(Mutex::new(Some(engine)));
        Self { choice: Choice::Auto, env: HostEnv::default(), connected }
    }

    /// The engine, which answers now.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn get(&self) -> Result<(SharedEngine, EngineInfo), EngineError> {
        let mut connected = self.connected.lock().await;
        let engine = match &*connected {
            Some(engine) => engine.clone(),
            None => {
                let engine = connect(self.choice, &self.env).await?;
                *connected = Some(engine.clone());
                engine
            }
        };
        drop(connected);
        let info = engine.detect().await?;
        Ok((engine, info))
    }
}
