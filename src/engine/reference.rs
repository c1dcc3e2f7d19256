//! Image references as users write them, checked and brought to one form before the engine sees them: engines differ in what
//! they make of a bad one, and the newer ones answer 'not found', which would look like an image to be pulled.

use crate::ports::engine::ImageRef;

/// The longest name that every engine takes, registry and path together.
const NAME_LIMIT: usize = 255;

/// The longest tag that the grammar knows.
const TAG_LIMIT: usize = 128;

/// Starts a bare image id in the normal form.
const ID_PREFIX: &str = "sha256:";

/// The registry of a reference that names none, and its old name.
const HUB: &str = "docker.io";
const HUB_BEFORE: &str = "index.docker.io";

/// An image reference or a bare image id, in the normal form: with its registry, and with either a tag or a digest. Where
/// both are given the digest alone counts, as for the engine. The grammar is the one of the `reference` package of the CNCF's
/// Distribution, which Docker and Podman read by.
pub(super) fn parse(reference: &str) -> Result<ImageRef, String> {
    if let Some(id) = bare_id(reference) {
        return Ok(ImageRef(format!("{ID_PREFIX}{id}")));
    }
    if reference.is_empty() {
        return Err("it is empty".into());
    }
    let (tagged, digest) = split(reference, '@');
    let (name, tag) = match tagged.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        Some(_) | None => (tagged, None),
    };
    let (registry, path) = located(name);
    check_name(registry, &path)?;
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    Ok(ImageRef(match (digest, tag) {
        (Some(digest), _) => format!("{registry}/{path}@{digest}"),
        (None, tag) => format!("{registry}/{path}:{}", tag.unwrap_or("latest")),
    }))
}

/// An image id is 64 hex digits, which no registry takes as a name.
fn bare_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix(ID_PREFIX).unwrap_or(name);
    (id.len() == 64 && is_hex(id)).then_some(id)
}

fn is_hex(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn split(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, behind)) => (before, Some(behind)),
        None => (text, None),
    }
}

/// Registry and path: what stands before the first `/` is a registry where it looks like a host.
fn located(name: &str) -> (&str, String) {
    let is_host = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let (registry, path) = match name.split_once('/') {
        Some((HUB_BEFORE, path)) => (HUB, path),
        Some((first, path)) if is_host(first) => (first, path),
        Some(_) | None => (HUB, name),
    };
    if registry == HUB && !path.contains('/') {
        return (registry, format!("library/{path}"));
    }
    (registry, path.to_owned())
}

fn check_name(registry: &str, path: &str) -> Result<(), String> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("its repository must be lower case".into());
    }
    if !is_host(registry) {
        return Err("its registry must be a host, or host:port".into());
    }
    if !path.split('/').all(is_component) {
        return Err(
            "each part of its name must be lower-case letters and digits, with '.', '_', '__' or dashes between them"
                .into(),
        );
    }
    if registry.len() + 1 + path.len() > NAME_LIMIT {
        return Err(format!("its name has more than {NAME_LIMIT} characters"));
    }
    Ok(())
}

fn is_host(registry: &str) -> bool {
    let (host, port) = split(registry, ':');
    let is_label = |label: &str| {
        let mut bytes = label.bytes();
        let at_edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        at_edge(bytes.clone().next())
            && at_edge(bytes.clone().next_back())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Whether a part of the path has letters and digits at both ends, and one separator between each two runs of them.
fn is_component(component: &str) -> bool {
    let is_word = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let ends_in_words = component.starts_with(is_word) && component.ends_with(is_word);
    ends_in_words
        && component
            .split(is_word)
            .filter(|between| !between.is_empty())
            .all(is_separator)
}

fn check_tag(tag: &str) -> Result<(), String> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !tag
        .bytes()
        .all(|byte| is_word(byte) || b".-".contains(&byte))
    {
        return Err("its tag may hold only letters, digits, '_', '.' and '-'".into());
    }
    if !tag.bytes().next().is_some_and(is_word) {
        return Err("its tag must begin with a letter, a digit or '_'".into());
    }
    if tag.len() > TAG_LIMIT {
        return Err(format!("its tag has more than {TAG_LIMIT} characters"));
    }
    Ok(())
}

fn check_digest(digest: &str) -> Result<(), String> {
    let (algorithm, value) = split(digest, ':');
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("its digest must begin with sha256:, sha384: or sha512:".into()),
    };
    let value = value.unwrap_or_default();
    if value.len() != length || !is_hex(value) {
        return Err(format!(
            "its digest must be {algorithm}: and {length} lower-case hex digits"
        ));
    }
    Ok(())
}

/// A reference in the parts that a pull needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pullable<'a> {
    /// `docker.io` or `host:port`.
    pub(super) registry: &'a str,
    /// Registry and path.
    pub(super) name: &'a str,
    /// A tag or a digest.
    pub(super) version: &'a str,
}

/// Takes a normal form apart; `None` for a bare image id, which no registry knows.
pub(super) fn pullable(image: &ImageRef) -> Option<Pullable<'_>> {
    let (registry, path) = image.0.split_once('/')?;
    let digest_at = path.find('@');
    let version_at = registry.len() + 1 + digest_at.or_else(|| path.rfind(':'))?;
    Some(Pullable {
        registry,
        name: &image.0[..version_at],
        version: &image.0[version_at + 1..],
    })
}

/// Picks the digest under which the registry of this reference knows the image; where it has none from there, another
/// registry's, since equal digests are equal images wherever they come from.
pub(super) fn repo_digest(image: &ImageRef, known: &[String]) -> Option<String> {
    let name = pullable(image).map(|parts| parts.name);
    let normal = |text: &String| parse(text).ok().map(|reference| reference.0);
    let all: Vec<String> = known.iter().filter_map(normal).collect();
    let same_name = |digest: &&String| digest.split('@').next() == name;
    all.iter().find(same_name).or(all.first()).cloned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_have_one_normal_form() {
        let digest = format!("sha256:{HEX}");
        for (written, normal) in [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".to_owned()),
            ("index.docker.io/a/b", "docker.io/a/b:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            (
                "127.0.0.1:5000/a/b__c:T_1.x-y",
                "127.0.0.1:5000/a/b__c:T_1.x-y".to_owned(),
            ),
            (
                &format!("a@{digest}"),
                format!("docker.io/library/a@{digest}"),
            ),
            (
                &format!("r:5000/a:1@{digest}"),
                format!("r:5000/a@{digest}"),
            ),
            (&digest, digest.clone()),
            (HEX, digest.clone()),
        ] {
            let parsed = parse(written).unwrap();

            assert_eq!(parsed.0, normal, "{written}");
            assert_eq!(parse(&parsed.0).unwrap(), parsed, "normal forms stay");
        }
    }

    #[test]
    fn what_an_engine_refuses_is_refused_here() {
        let long = "a/".repeat(127) + "a";
        for bad in [
            "",
            " busybox",
            "busybox ",
            "busy box",
            "busybox\n",
            "Busybox",
            "UPPER/case:x",
            "docker.io/Library/busybox",
            "a//b",
            "/a",
            "a/",
            "a:",
            ":1",
            "../etc",
            "a/../b",
            "a?x",
            "a#x",
            "http://r/a",
            "a:é",
            "a@sha256:abc",
            &format!("a@sha256:{}", HEX.to_uppercase()),
            &format!("a@md5:{HEX}"),
            &long,
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            parse("UPPER/case:x"),
            Err("its repository must be lower case".into())
        );
        assert_eq!(
            parse("Busybox"),
            Err("its repository must be lower case".into())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bad, why) in [
            (
                "my_host:5000/a",
                "its registry must be a host, or host:port",
            ),
            ("-a.b/c", "its registry must be a host, or host:port"),
            ("a.b:x/c", "its registry must be a host, or host:port"),
            ("a:-1", "its tag must begin with a letter, a digit or '_'"),
            ("a:", "its tag must begin with a letter, a digit or '_'"),
            (
                &format!("a:{}", "1".repeat(129)),
                "its tag has more than 128 characters",
            ),
            (
                "a@sha1:0",
                "its digest must begin with sha256:, sha384: or sha512:",
            ),
            (
                "a@sha256:",
                "its digest must be sha256: and 64 lower-case hex digits",
            ),
        ] {
            assert_eq!(parse(bad), Err(why.into()), "{bad}");
        }
        for bad in [
            "a..b",
            "a___b",
            "a_-b",
            "a-",
            "_a",
            "a._b",
            "r.io/a/.b",
            "\u{e9}",
        ] {
            let why = parse(bad).unwrap_err();
            assert!(why.starts_with("each part of its name"), "{bad}: {why}");
        }
    }

    proptest! {
        /// Whatever reference is taken, its normal form is one, comes apart for a pull, and is of characters that a path may hold.
        #[test]
        fn what_is_taken_has_a_normal_form(text in "[a-bA./:@_\\-0 ]{0,24}") {
            if let Ok(normal) = parse(&text) {
                prop_assert_eq!(parse(&normal.0), Ok(normal.clone()));
                let parts = pullable(&normal).expect("no id is as short");
                prop_assert!(is_host(parts.registry));
                let path = &parts.name[parts.registry.len()..];
                prop_assert!(!normal.0.contains(' ') && !path.contains('A'));
            }
        }
    }

    #[test]
    fn a_reference_comes_apart_for_a_pull_and_an_id_does_not() {
        let parts = |written: &str| {
            let image = parse(written).unwrap();
            pullable(&image)
                .map(|parts| [parts.registry, parts.name, parts.version].map(str::to_owned))
        };

        assert_eq!(
            parts("r:5000/a/b:1").unwrap(),
            ["r:5000", "r:5000/a/b", "1"]
        );
        assert_eq!(
            parts(&format!("a@sha256:{HEX}")).unwrap(),
            ["docker.io", "docker.io/library/a", &format!("sha256:{HEX}")]
        );
        assert_eq!(parts(HEX), None);
    }

    #[test]
    fn an_image_is_recorded_by_its_own_registrys_digest() {
        let own = format!("docker.io/library/a@sha256:{HEX}");
        let known = [format!("r:5000/a@sha256:{HEX}"), format!("a@sha256:{HEX}")];
        let image = parse("a:1").unwrap();

        assert_eq!(repo_digest(&image, &known), Some(own));
        assert_eq!(repo_digest(&image, &known[..1]), Some(known[0].clone()));
        assert_eq!(repo_digest(&image, &[]), None);
    }
}
