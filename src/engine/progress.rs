//! A pull's progress for people: one line for each layer's steps, not one per packet. Everything else is a bare sign of life.

use std::collections::HashMap;

use bollard::models::CreateImageInfo;

use crate::domain::text;

/// Percent of a layer's download between two lines about it.
const STEP_PERCENT: i64 = 25;

/// Layers below this many bytes are told only when they are done.
const TALKATIVE_BYTES: i64 = 4 * 1024 * 1024;

/// Bytes of a registry's words that are kept.
const LINE_LIMIT: usize = 500;

/// Steps of a layer that follow each other within moments: no line is made of them.
const SILENT_STEPS: [&str; 4] = [
    "Pulling fs layer",
    "Waiting",
    "Verifying Checksum",
    "Download complete",
];

/// What an item of a pull's stream tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sign {
    /// A line for people.
    Line(String),
    /// Nothing for people, but the pull moves.
    Life,
}

/// Makes lines of a pull's items, and remembers what it told of each layer.
#[derive(Debug, Default)]
pub(super) struct Narrator {
    /// The last step told, in percent, by layer and status.
    told: HashMap<String, i64>,
}

impl Narrator {
    /// The sign that the next item gives.
    pub(super) fn tell(&mut self, item: &CreateImageInfo) -> Sign {
        let Some(status) = item.status.as_deref().filter(|status| !status.is_empty()) else {
            return Sign::Life;
        };
        let line = match item.id.as_deref() {
            None => Some(status.to_owned()),
            // The id of this item is the tag.
            Some(tag) if status.starts_with("Pulling from") => Some(format!("{tag}: {status}")),
            Some(layer) => self.tell_layer(layer, status, item),
        };
        match line {
            Some(line) => Sign::Line(text::escape(&line, LINE_LIMIT)),
            None => Sign::Life,
        }
    }

    fn tell_layer(&mut self, layer: &str, status: &str, item: &CreateImageInfo) -> Option<String> {
        let amounts = item.progress_detail.as_ref();
        let amounts = amounts.and_then(|detail| Some((detail.current?, detail.total?)));
        match amounts {
            Some((current, total)) => {
                let percent = self.step(layer, status, current, total)?;
                Some(format!("layer {layer}: {status} {percent} %"))
            }
            // A step under way whose size the engine does not tell comes once for every packet.
            None if status.ends_with("ing") || SILENT_STEPS.contains(&status) => None,
            None => Some(format!("layer {layer}: {status}")),
        }
    }

    fn step(&mut self, layer: &str, status: &str, current: i64, total: i64) -> Option<i64> {
        if total < TALKATIVE_BYTES {
            return None;
        }
        let percent = current.saturating_mul(100) / total;
        let step = percent.clamp(0, 100) / STEP_PERCENT * STEP_PERCENT;
        let told = self.told.entry(format!("{layer} {status}")).or_default();
        if step <= *told {
            return None;
        }
        *told = step;
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn item(id: Option<&str>, status: &str, amounts: Option<(i64, i64)>) -> CreateImageInfo {
        CreateImageInfo {
            id: id.map(str::to_owned),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail {
                current: amounts.map(|(current, _)| current),
                total: amounts.map(|(_, total)| total),
            }),
            ..CreateImageInfo::default()
        }
    }

    fn lines(items: impl IntoIterator<Item = CreateImageInfo>) -> Vec<String> {
        let mut narrator = Narrator::default();
        let line = |item| match narrator.tell(&item) {
            Sign::Line(line) => Some(line),
            Sign::Life => None,
        };
        items.into_iter().filter_map(line).collect()
    }

    #[test]
    fn a_pull_is_told_in_few_lines() {
        const MIB: i64 = 1024 * 1024;
        let mut items = vec![
            item(Some("1.0"), "Pulling from library/app", None),
            item(Some("ab"), "Pulling fs layer", None),
            item(Some("ab"), "Waiting", None),
        ];
        for done in 0..=1_000 {
            items.push(item(
                Some("ab"),
                "Downloading",
                Some((done * MIB, 1_000 * MIB)),
            ));
        }
        items.push(item(Some("ab"), "Download complete", None));
        items.push(item(
            Some("ab"),
            "Extracting",
            Some((1_000 * MIB, 1_000 * MIB)),
        ));
        items.push(item(Some("ab"), "Pull complete", None));
        items.push(item(Some("cd"), "Downloading", Some((1, 2_000))));
        items.push(item(Some("cd"), "Pull complete", None));
        items.push(item(None, "Digest: sha256:ef", None));

        assert_eq!(
            lines(items),
            [
                "1.0: Pulling from library/app",
                "layer ab: Downloading 25 %",
                "layer ab: Downloading 50 %",
                "layer ab: Downloading 75 %",
                "layer ab: Downloading 100 %",
                "layer ab: Extracting 100 %",
                "layer ab: Pull complete",
                "layer cd: Pull complete",
                "Digest: sha256:ef",
            ]
        );
    }

    #[test]
    fn every_silent_item_is_a_sign_of_life() {
        let mut narrator = Narrator::default();

        for silent in [
            CreateImageInfo::default(),
            item(Some("ab"), "Extracting", None),
            item(Some("ab"), "Downloading", Some((1, 0))),
            item(Some("ab"), "Downloading", Some((-1, i64::MAX))),
        ] {
            assert_eq!(narrator.tell(&silent), Sign::Life, "{silent:?}");
        }
    }

    #[test]
    fn a_registry_cannot_forge_lines() {
        let forged = item(None, "done\n[worker-node] forged", None);

        assert_eq!(lines([forged]), ["done\\n[worker-node] forged"]);
    }
}
