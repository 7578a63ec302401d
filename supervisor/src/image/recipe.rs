//! As much of the recipe's grammar as our own Dockerfile uses: its stages, what they copy, and how many steps a build has.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe {
    arguments: BTreeMap<String, String>,
    stages: Vec<Stage>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stage {
    name: String,
    /// An image or another stage.
    base: String,
    /// Paths in the context.
    copied: Vec<String>,
    /// Stages or images that files are copied from.
    from: Vec<String>,
    /// Instructions that the builder shows as steps of their own.
    steps: u32,
}

impl Recipe {
    /// Reads the text of a Dockerfile. Instructions that mean nothing here are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut recipe = Self::default();
        for line in logical_lines(text) {
            let mut words = line.split_whitespace();
            let Some(instruction) = words.next() else { continue };
            let words: Vec<&str> = words.collect();
            match (instruction, recipe.stages.last_mut()) {
                ("ARG", None) => {
                    if let Some((name, value)) = words.first().and_then(|word| word.split_once('=')) {
                        recipe.arguments.insert(name.to_owned(), value.to_owned());
                    }
                }
                ("FROM", _) => recipe.stages.push(Stage {
                    base: words.first().copied().unwrap_or_default().to_owned(),
                    name: words.get(2).copied().unwrap_or_default().to_owned(),
                    ..Stage::default()
                }),
                ("COPY" | "ADD", Some(stage)) => {
                    stage.steps += 1;
                    let flag = words.iter().find_map(|word| word.strip_prefix("--from="));
                    let paths = words.iter().filter(|word| !word.starts_with("--"));
                    match flag {
                        Some(from) => stage.from.push(from.to_owned()),
                        None => {
                            let paths: Vec<&&str> = paths.collect();
                            let sources = paths.split_last().map_or(&[][..], |(_target, sources)| sources);
                            stage.copied.extend(sources.iter().map(|path| (**path).to_owned()));
                        }
                    }
                }
                ("RUN" | "WORKDIR", Some(stage)) => stage.steps += 1,
                (_, _) => {}
            }
        }
        recipe
    }

    /// The paths of the context that are copied, by any stage.
    pub fn copied(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().flat_map(|stage| stage.copied.iter().map(String::as_str))
    }

    /// How many steps the last stage and all that it needs have, as BuildKit counts them: one for each instruction that
    /// changes files and one for each image that is started from. A step that two stages share is counted once.
    #[must_use]
    pub fn steps(&self, arguments: &BTreeMap<String, String>) -> u32 {
        let mut all = self.arguments.clone();
        all.extend(arguments.iter().map(|(name, value)| (name.clone(), value.clone())));
        let mut needed: Vec<&Stage> = self.stages.last().into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut images = BTreeSet::new();
        let mut steps = 0;
        while let Some(stage) = needed.pop() {
            if !seen.insert((&stage.name, &stage.base)) {
                continue;
            }
            steps += stage.steps;
            for reference in std::iter::once(&stage.base).chain(&stage.from) {
                let reference = substitute(reference, &all);
                match self.stages.iter().find(|other| other.name == reference) {
                    Some(other) => needed.push(other),
                    None => {
                        images.insert(reference);
                    }
                }
            }
        }
        steps + u32::try_from(images.len()).unwrap_or(0)
    }
}

/// Lines with their continuations joined, without comments and blank ones.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => lines.push(std::mem::take(&mut open) + line),
        }
    }
    lines
}

/// Puts the values in for `${NAME}`.
fn substitute(text: &str, arguments: &BTreeMap<String, String>) -> String {
    arguments.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
ARG BASE=debian
ARG WHICH=a

FROM ${BASE} AS base
ENV A=1 \\
    B=2
COPY one two /x/
RUN true \\
    && true
FROM base AS build-a
RUN long
FROM base AS build-b
COPY --chmod=755 three /y
FROM build-${WHICH} AS build
FROM base
COPY --from=build /out /in
WORKDIR /w
USER root
";

    #[test]
    fn copies_of_other_stages_are_not_of_the_context() {
        let recipe = Recipe::parse(TEXT);
        assert_eq!(recipe.copied().collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn only_needed_stages_count() {
        let recipe = Recipe::parse(TEXT);
        // FROM debian, COPY, RUN of base; RUN or COPY of build-a or build-b; COPY, WORKDIR of the last.
        assert_eq!(recipe.steps(&BTreeMap::new()), 6);
        assert_eq!(recipe.steps(&BTreeMap::from([("WHICH".into(), "b".into())])), 6);
        assert_eq!(recipe.steps(&BTreeMap::from([("WHICH".into(), "none".into())])), 6);
    }

    #[test]
    fn our_own_recipe_is_understood() {
        let recipe = Recipe::parse(crate::image::embedded::recipe());
        let with = |runner: &str| recipe.steps(&BTreeMap::from([("RUNNER".into(), runner.into())]));
        assert!(with("prebuilt") > 10);
        assert!(with("source") > with("prebuilt"));
    }
}
