//! Images: looked up, imported, built, removed.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::Bench;
use crate::engine::{BuildOptions, BuildProgress, Labels};

/// Progress that may wait to be read.
const PROGRESS_QUEUE: usize = 16;

pub(super) async fn present_and_missing(bench: &Bench) -> anyhow::Result<()> {
    let image = bench.engine.image(&bench.image).await?.context("the image of the suite is not present")?;
    ensure!(!image.id.0.is_empty() && image.size > 0 && !image.architecture.is_empty(), "{image:?}");
    let by_id = bench.engine.image(&image.id.0).await?.context("the image is not found by its id")?;
    ensure!(by_id.id == image.id);
    for missing in ["aigo-conformance-no-such-image:none", "../version", "A b"] {
        ensure!(bench.engine.image(missing).await?.is_none(), "{missing}");
        bench.engine.remove_image(missing).await?;
    }
    Ok(())
}

fn archive(files: &[(&str, &str)]) -> anyhow::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    Ok(archive.into_inner()?.into())
}

pub(super) async fn imported_and_removed(bench: &Bench) -> anyhow::Result<()> {
    let tag = format!("{}:one", bench.name("import"));
    let root = archive(&[("hello", "hello\n")])?;
    // In pieces, as it comes from a pipe.
    let pieces: Vec<_> = root.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let id = bench.engine.import_image(stream::iter(pieces).boxed(), &tag).await?;
    let image = bench.engine.image(&tag).await?.context("the imported image is not present")?;
    ensure!(image.id == id && image.tags.contains(&tag), "{image:?}");
    bench.engine.remove_image(&tag).await?;
    ensure!(bench.engine.image(&tag).await?.is_none());
    bench.engine.remove_image(&tag).await?;
    Ok(())
}

pub(super) async fn built_with_progress(bench: &Bench) -> anyhow::Result<()> {
    let tag = format!("{}:two", bench.name("build"));
    let recipe = format!("FROM {}\nARG WORD\nCOPY hello /hello\nRUN echo \"built $WORD\" && cat /hello\n", bench.image);
    let context = archive(&[("Dockerfile", &recipe), ("hello", "hello\n")])?;
    let options = BuildOptions {
        tag: tag.clone(),
        args: Labels::from([("WORD".to_owned(), bench.run.clone())]),
        labels: Labels::from([("built.by".to_owned(), "conformance".to_owned())]),
        ..BuildOptions::default()
    };
    let (sink, mut progress) = mpsc::channel(PROGRESS_QUEUE);
    let (built, events) = tokio::join!(
        async {
            let built = bench.engine.build(context, &options, &sink).await;
            drop(sink);
            built
        },
        async {
            let mut events = Vec::new();
            while let Some(event) = progress.recv().await {
                events.push(event);
            }
            events
        }
    );
    let id = built?;
    let steps = events.iter().filter(|event| matches!(event, BuildProgress::Step { .. })).count();
    let lines = events
        .iter()
        .filter(|event| matches!(event, BuildProgress::Log { line, .. } if line.contains("built")))
        .count();
    ensure!(steps > 0 && lines > 0, "{events:?}");
    ensure!(!events.iter().any(|event| matches!(event, BuildProgress::Failed { .. })), "{events:?}");
    let image = bench.engine.image(&tag).await?.context("the built image is not present")?;
    ensure!(image.id == id, "{image:?} is not {id}");
    ensure!(image.labels.get("built.by").map(String::as_str) == Some("conformance"), "{image:?}");
    // A reader that left does not stop a build.
    let (sink, gone) = mpsc::channel(PROGRESS_QUEUE);
    drop(gone);
    let context = archive(&[("Dockerfile", &recipe), ("hello", "hello\n")])?;
    bench.engine.build(context, &options, &sink).await?;
    bench.engine.remove_image(&tag).await?;
    Ok(())
}
