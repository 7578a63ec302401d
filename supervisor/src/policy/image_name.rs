//! Image tags: `[registry/]name[:tag][@digest]`.

/// Why a text is no image tag.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not an image tag: use [registry/]name[:tag][@sha256:digest] with lower-case letters, digits and . _ - in \
     the name"
)]
pub struct BadImage(String);

const MAX_CHARS: usize = 255;

/// Judges an image tag by the engines' common grammar (distribution/reference).
pub fn check(image: &str) -> Result<(), BadImage> {
    if is_valid(image) { Ok(()) } else { Err(BadImage(image.to_owned())) }
}

fn is_valid(image: &str) -> bool {
    if image.is_empty() || image.len() > MAX_CHARS {
        return false;
    }
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digest.is_some_and(|digest| !digest.strip_prefix("sha256:").is_some_and(hex)) {
        return false;
    }
    // A colon after the last slash begins the tag; one before it belongs to the registry's port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return false;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let (registry, path) = match parts.split_first() {
        Some((first, path)) if !path.is_empty() && (first.contains(['.', ':']) || *first == "localhost") => {
            (Some(*first), path)
        }
        Some(_) | None => (None, &parts[..]),
    };
    registry.is_none_or(is_registry) && path.iter().all(|part| is_component(part))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = tag.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    first && tag.len() <= 128 && tag.chars().all(word)
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "1"));
    let label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    !host.is_empty() && !host.starts_with(['-', '.']) && host.chars().all(label) && port.parse::<u16>().is_ok()
}

fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| alphanumeric(c) || matches!(c, '.' | '_' | '-');
    part.chars().next().is_some_and(alphanumeric)
        && part.chars().next_back().is_some_and(alphanumeric)
        && part.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let digest = format!("a@sha256:{}", "0f".repeat(32));
        for good in ["a", "aigo-agent-runner:latest", "host:5000/a/b:1.2", "localhost/x", "ghcr.io/o/n:v1", &digest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "-x", "a:", "a:b:c", "a b", "a/../b", "a@md5:00", "--privileged", "a//b", "a;rm", "a:-x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
