//! The flags of the existing worker, which are written with one dash. clap would read `-id` as `-i -d`, so these four are
//! given their second dash before clap sees them. And switches whose word stands behind a space, which clap would read as a
//! command, are given their `=`. Nothing else is touched, and nothing after `--`.

use std::ffi::OsString;

/// As the existing worker knows them.
const KNOWN: [&str; 4] = ["id", "ip", "master", "port"];

/// What is on or off.
const SWITCHES: [&str; 4] = [
    "--supervise",
    "--fail-fast",
    "--pin-master",
    "--accept-new-engine",
];

/// Gives the known flags their second dash, and switches their `=`.
pub(super) fn rewrite(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut over = false;
    let mut rewritten: Vec<OsString> = Vec::new();
    for mut argument in argv {
        over = over || argument == "--";
        let last = rewritten.last_mut().filter(|_| !over);
        if let Some(switch) = last.filter(|last| is_switch(last) && is_word(&argument)) {
            switch.push("=");
            switch.push(argument);
            continue;
        }
        if !over && is_known(&argument) {
            let mut dashed = OsString::from("-");
            dashed.push(argument);
            argument = dashed;
        }
        rewritten.push(argument);
    }
    rewritten
}

fn is_switch(argument: &OsString) -> bool {
    SWITCHES.iter().any(|switch| argument == switch)
}

fn is_word(argument: &OsString) -> bool {
    argument == "true" || argument == "false"
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
