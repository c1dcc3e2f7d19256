//! Which images may run here. Judged on an image's normal form (`docker.io/library/busybox:latest`), so that no other way to write
//! a name leads around a rule.

use std::fmt;

use wildmatch::WildMatch;

/// The operator's rules for images.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageRules {
    /// Patterns of which one must fit; empty: every image may run.
    patterns: Vec<Pattern>,
    /// An image must be named by its digest: what runs is then what was named, whatever a registry says today.
    digest: bool,
}

/// A pattern for names of images: `*` stands for any text, `?` for one character. One without a tag or a digest fits every one.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    text: String,
    matcher: WildMatch,
}

impl Pattern {
    /// Reads what an operator wrote.
    ///
    /// # Errors
    /// The text can fit no image; the error says why, and what to write.
    pub fn read(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase();
        let name = text.split([':', '@']).next().unwrap_or_default();
        if text.is_empty()
            || !name.chars().all(is_name)
            || !text.chars().all(|c| c.is_ascii_graphic())
        {
            return Err("give a name in its full form, such as docker.io/library/* or registry.example/team/*".into());
        }
        if !text.contains(['/', '*', ':']) {
            return Err(format!(
                "the engine knows {text} as docker.io/library/{text}; give the full name, or */{text}"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            matcher: WildMatch::new(text),
        })
    }

    pub(super) fn fits(&self, image: &str) -> bool {
        self.matcher.matches(image) || self.matcher.matches(name_of(image))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An image's name without the tag or the digest. A bare id has none.
fn name_of(image: &str) -> &str {
    let Some(path) = image.find('/') else {
        return image;
    };
    let version = image[path..].find('@').or_else(|| image[path..].rfind(':'));
    version.map_or(image, |at| &image[..path + at])
}

impl ImageRules {
    /// Rules by which one of `patterns` must fit, if there are any; `digest`: an image must be named by its digest.
    #[must_use]
    pub fn new(patterns: Vec<Pattern>, digest: bool) -> Self {
        Self { patterns, digest }
    }

    /// Why an image in its normal form may not run here, if so.
    #[must_use]
    pub fn refusal(&self, image: &str) -> Option<String> {
        let is_fixed = image.contains('@') || !image.contains('/');
        if self.digest && !is_fixed {
            return Some(format!(
                "this worker runs images by their digest alone (--require-digest), and {image} has none"
            ));
        }
        if self.patterns.is_empty() || self.patterns.iter().any(|pattern| pattern.fits(image)) {
            return None;
        }
        let patterns: Vec<_> = self.patterns.iter().map(ToString::to_string).collect();
        Some(format!(
            "the image {image} is not among those that this worker may run (--allow-image {})",
            patterns.join(",")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[&str], digest: bool) -> ImageRules {
        let patterns = patterns.iter().map(|text| Pattern::read(text).unwrap());
        ImageRules::new(patterns.collect(), digest)
    }

    #[test]
    fn an_image_runs_that_one_of_the_patterns_fits() {
        let digest = format!("r.example:5000/team/a@sha256:{}", "a".repeat(64));
        let id = format!("sha256:{}", "b".repeat(64));
        for (pattern, image, may_run) in [
            (
                "docker.io/library/*",
                "docker.io/library/busybox:latest",
                true,
            ),
            (
                "docker.io/library/*",
                "docker.io/evil/library/busybox:1",
                false,
            ),
            (
                "docker.io/library/busybox",
                "docker.io/library/busybox:1.36",
                true,
            ),
            (
                "docker.io/library/busybox",
                "docker.io/library/busybox-evil:1",
                false,
            ),
            (
                "docker.io/library/busybox:1.*",
                "docker.io/library/busybox:2.0",
                false,
            ),
            ("*/busybox", "docker.io/library/busybox:latest", true),
            ("r.example:5000/team/*", &digest, true),
            ("r.example:5000/team/a", &digest, true),
            ("r.example/*", &digest, false),
            ("*", &id, true),
            ("docker.io/*", &id, false),
            ("sha256:*", &id, true),
        ] {
            let refusal = rules(&[pattern], false).refusal(image);
            assert_eq!(
                refusal.is_none(),
                may_run,
                "{image} under {pattern}: {refusal:?}"
            );
        }
    }

    #[test]
    fn without_rules_every_image_runs_and_one_of_several_is_enough() {
        let image = "docker.io/library/busybox:latest";
        assert_eq!(ImageRules::default().refusal(image), None);
        assert_eq!(
            rules(&["a.example/*", "docker.io/*"], false).refusal(image),
            None
        );
        let refusal = rules(&["a.example/*", "b.example/*"], false)
            .refusal(image)
            .unwrap();
        assert!(
            refusal.contains("--allow-image a.example/*,b.example/*"),
            "{refusal}"
        );
    }

    #[test]
    fn a_tag_is_no_digest_and_an_id_is_as_good_as_one() {
        let rules = rules(&[], true);
        let digest = format!("docker.io/library/a@sha256:{}", "a".repeat(64));
        let id = format!("sha256:{}", "b".repeat(64));
        assert!(
            rules
                .refusal("docker.io/library/a:1")
                .unwrap()
                .contains("--require-digest")
        );
        assert_eq!(rules.refusal(&digest), None);
        assert_eq!(rules.refusal(&id), None);
    }

    #[test]
    fn a_pattern_that_fits_nothing_is_a_mistake() {
        for text in ["", "Busybox/*", "a b/*", "é/*"] {
            let mistake = Pattern::read(text).unwrap_err();
            assert!(mistake.contains("full form"), "{text}: {mistake}");
        }
        let short = Pattern::read("busybox").unwrap_err();
        assert!(short.contains("docker.io/library/busybox"), "{short}");
        for text in ["*", "*/busybox", "r.example/a:Tag", "sha256:*"] {
            assert_eq!(Pattern::read(text).unwrap().to_string(), text);
        }
    }
}
