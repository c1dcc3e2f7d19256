//! The flags of the existing worker, which are written with one dash. clap would read `-id` as `-i -d`, so these four are
//! given their second dash before clap sees them; nothing else is touched, and nothing after `--`.

use std::ffi::OsString;

/// As the existing worker knows them.
const KNOWN: [&str; 4] = ["id", "ip", "master", "port"];

/// Gives the known flags their second dash.
pub(super) fn rewrite(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut over = false;
    argv.into_iter()
        .map(|argument| {
            over = over || argument == "--";
            if over || !is_known(&argument) {
                return argument;
            }
            let mut rewritten = OsString::from("-");
            rewritten.push(argument);
            rewritten
        })
        .collect()
}

fn is_known(argument: &OsString) -> bool {
    let Some(flag) = argument.as_encoded_bytes().strip_prefix(b"-") else {
        return false;
    };
    let name = flag.split(|byte| *byte == b'=').next().unwrap_or(flag);
    KNOWN.iter().any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(argv: &str) -> String {
        let argv = argv.split(' ').map(OsString::from);
        rewrite(argv)
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_four_known_flags_get_their_second_dash() {
        assert_eq!(
            rewritten("w -id a -ip=b -master c:1 -port :0"),
            "w --id a --ip=b --master c:1 --port :0"
        );
    }

    #[test]
    fn nothing_else_is_touched() {
        for argv in [
            "w --id a --port=1",
            "w -h -idx -v -p 1",
            "w demo submit busybox -- ls -id -ip=1",
        ] {
            assert_eq!(rewritten(argv), argv);
        }
    }
}
