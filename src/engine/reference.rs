//! Image references as users write them, checked and brought to one form before the engine sees them: engines differ in what
//! they make of a bad one, and the newer ones answer 'not found', which would look like an image to be pulled.

use oci_spec::distribution::Reference;

use crate::ports::engine::ImageRef;

/// The longest name that every engine takes, registry and path together.
const NAME_LIMIT: usize = 255;

/// Starts a bare image id in the normal form.
const ID_PREFIX: &str = "sha256:";

/// An image reference or a bare image id, in the normal form: with its registry, and with either a tag or a digest. Where
/// both are given the digest alone counts, as for the engine.
pub(super) fn parse(name: &str) -> Result<ImageRef, String> {
    if let Some(id) = bare_id(name) {
        return Ok(ImageRef(format!("{ID_PREFIX}{id}")));
    }
    if name.is_empty() {
        return Err("it is empty".into());
    }
    let reference = Reference::try_from(name).map_err(|error| explain(name, &error.to_string()))?;
    check(&reference)?;
    Ok(ImageRef(normal_form(&reference)))
}

/// Compiles the grammar, which is a large regular expression: milliseconds in what ships, a tenth of a second in tests.
pub(super) fn prepare() {
    // What comes of it is of no interest.
    let _ = parse("busybox");
}

/// An image id is 64 hex digits, which no registry takes as a name.
fn bare_id(name: &str) -> Option<&str> {
    let id = name.strip_prefix(ID_PREFIX).unwrap_or(name);
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (id.len() == 64 && id.bytes().all(is_hex)).then_some(id)
}

/// The grammar of the library is wider than the engine's in a few places.
fn check(reference: &Reference) -> Result<(), String> {
    let (registry, repository) = (reference.registry(), reference.repository());
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("its repository must be lower case".into());
    }
    if registry.len() + 1 + repository.len() > NAME_LIMIT {
        return Err(format!("its name has more than {NAME_LIMIT} characters"));
    }
    let is_tag = |tag: &str| {
        tag.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    };
    if !reference.tag().is_none_or(is_tag) {
        return Err("its tag may hold only letters, digits, '_', '.' and '-'".into());
    }
    let is_lower = |digest: &str| !digest.bytes().any(|byte| byte.is_ascii_uppercase());
    if !reference.digest().is_none_or(is_lower) {
        return Err("its digest must be lower case".into());
    }
    Ok(())
}

fn explain(name: &str, grammar: &str) -> String {
    let path = name.split('@').next().unwrap_or(name);
    let path = match path.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => path,
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        "its repository must be lower case".into()
    } else {
        grammar.to_owned()
    }
}

fn normal_form(reference: &Reference) -> String {
    let name = format!("{}/{}", reference.registry(), reference.repository());
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, tag) => format!("{name}:{}", tag.unwrap_or("latest")),
    }
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
