//! `worker-node demo submit`: hands a task to the demo that runs on this machine, shows its log, and ends as it ends. The log
//! goes to standard output and everything else to standard error, so that the output can be passed on.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use super::{
    desk::{News, Request, socket_path},
    screen::shown,
};
use crate::{cli::DemoTask, exit::Exit};

/// Submits the task and waits for its end.
pub fn submit(task: &DemoTask) -> Exit {
    let Ok(stream) = UnixStream::connect(socket_path()) else {
        eprintln!(
            "error: no demo waits for tasks here\nStart one in another terminal: worker-node demo --keep"
        );
        return Exit::DependencyAway;
    };
    let request = Request {
        image: task.image.clone(),
        command: command_line(&task.command),
    };
    follow(stream, &request).unwrap_or_else(|error| {
        eprintln!("error: the demo went away: {error}");
        Exit::Unexpected
    })
}

fn follow(mut stream: UnixStream, request: &Request) -> io::Result<Exit> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut out = io::stdout().lock();
    for line in BufReader::new(stream).lines() {
        match serde_json::from_str(&line?)? {
            News::Accepted(id) => eprintln!("task {id}"),
            News::Line(line) => {
                if writeln!(out, "{}", shown(&line))
                    .and_then(|()| out.flush())
                    .is_err()
                {
                    // Nobody reads the output any more: hanging up cancels the task.
                    return Ok(Exit::Unexpected);
                }
            }
            News::End { status, trailer } => {
                eprintln!("{}", shown(&trailer));
                return Ok(exit(&status));
            }
            News::Refused(why) => {
                eprintln!("error: {}", shown(&why));
                return Ok(Exit::Unexpected);
            }
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn exit(status: &str) -> Exit {
    match status {
        "completed" => Exit::Clean,
        _ => Exit::Unexpected,
    }
}

/// One word is a line for the shell as it is; several are a program and its arguments, kept apart by quotes.
fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            words.join(" ")
        }
    }
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=:,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn line(words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        command_line(&words)
    }

    #[test]
    fn one_word_is_the_shells_and_none_is_the_images() {
        assert_eq!(line(&["echo a; echo b"]), "echo a; echo b");
        assert_eq!(line(&[]), "");
    }

    #[test]
    fn several_words_reach_the_program_as_they_were_typed() {
        let words = ["printf", "<%s>", "a b", "it's", "$HOME", "", "*", "a\nb"];

        let output = Command::new("/bin/sh").arg("-c").arg(line(&words)).output();

        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(printed, "<a b><it's><$HOME><><*><a\nb>");
    }
}
