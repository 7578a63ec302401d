//! Building an image with BuildKit. An engine that has only the classic builder (or speaks like it) answers the same
//! request with lines of text, which are read as well.

use std::collections::HashMap;

use bollard::body_full;
use bollard::errors::Error;
use bollard::models::BuildInfoAux;
use bollard::query_parameters::BuildImageOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt;
use uuid::Uuid;

use super::dialect::Dialect;
use super::error::About;
use super::image;
use super::progress::Tracker;
use super::wire::Wire;
use crate::engine::error::clip;
use crate::engine::{BuildOptions, EngineError, ImageId, ProgressSink, deadline};

pub(super) async fn build(
    wire: &Wire,
    context: Bytes,
    options: &BuildOptions,
    progress: &ProgressSink,
) -> Result<ImageId, EngineError> {
    let BuildOptions { tag, recipe, target, args, labels, no_cache, network } = options;
    let about = About::image("build an image", tag);
    let session = Uuid::new_v4().to_string();
    let mut wanted = BuildImageOptionsBuilder::new()
        .t(tag)
        .dockerfile(if recipe.is_empty() { "Dockerfile" } else { recipe })
        .buildargs(&pairs(args))
        .labels(&pairs(labels))
        .nocache(*no_cache)
        .rm(true)
        .forcerm(true)
        .version(wire.dialect.builder());
    if let Dialect::Docker = wire.dialect {
        wanted = wanted.session(&session);
    }
    if let Some(target) = target {
        wanted = wanted.target(target);
    }
    if let Some(network) = network {
        wanted = wanted.networkmode(network);
    }
    let mut answers = wire.docker.build_image(wanted.build(), None, Some(body_full(context))).boxed();
    let mut tracker = Tracker::default();
    let mut id = None;
    loop {
        let answer = deadline::within("go on with the build", deadline::BUILD_SILENCE, async {
            Ok::<_, EngineError>(answers.next().await)
        })
        .await?;
        let said = match answer {
            None => break,
            Some(Ok(info)) => match info.aux {
                Some(BuildInfoAux::BuildKit(status)) => tracker.buildkit(&status),
                Some(BuildInfoAux::Default(image)) => {
                    id = image.id.or(id);
                    Vec::new()
                }
                None => info.stream.map(|text| tracker.classic(&text)).unwrap_or_default(),
            },
            Some(Err(Error::DockerStreamError { error })) => {
                let (said, failure) = tracker.failed(&clip(&error));
                tell(progress, said).await;
                return Err(match about.translate(&wire.endpoint, Error::DockerStreamError { error }) {
                    full @ EngineError::NoSpace { .. } => full,
                    _ => failure,
                });
            }
            Some(Err(error)) => return Err(about.translate(&wire.endpoint, error)),
        };
        tell(progress, said).await;
    }
    tell(progress, tracker.finish()).await;
    match id {
        Some(id) => Ok(ImageId(id)),
        None => image::inspect(wire, tag).await?.map(|image| image.id).ok_or_else(|| EngineError::Malformed {
            what: about.what,
            message: "the build ended without an image".to_owned(),
        }),
    }
}

fn pairs(map: &std::collections::BTreeMap<String, String>) -> HashMap<String, String> {
    map.clone().into_iter().collect()
}

/// A reader that left is no reason to stop.
async fn tell(progress: &ProgressSink, said: Vec<crate::engine::BuildProgress>) {
    for event in said {
        if progress.send(event).await.is_err() {
            return;
        }
    }
}
