//! `worker-node images` and `pull`: what the engine of a running worker has for its tasks, and one more image before a task
//! needs it.

use std::{path::PathBuf, time::SystemTime};

use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ask, columns, words};
use crate::{
    domain::callers::Caller,
    exit::Exit,
    ports::{
        admin::{Admin, AdminError, ImageView, PullStep},
        clock::{Clock, SystemClock},
    },
};

/// Bytes of an image's names, and of a line of a pull, that are shown.
const NAMES: usize = 1_024;

/// How many digits of an id are shown, as by the engine's own program.
const ID: usize = 12;

/// The arguments of `worker-node images`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct ImagesCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    pub(super) json: bool,
}

/// The arguments of `worker-node pull`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct PullCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    pub(super) image: String,
}

/// Prints the images that the worker behind `admin` has.
pub fn show(command: &ImagesCommand, admin: &dyn Admin) -> Exit {
    ask::ask(async {
        let images = admin.images().await?;
        Ok(match command.json {
            true => line(&images),
            false => table(&images, SystemClock.now()),
        })
    })
}

/// Has the worker behind `admin` pull an image. Its progress goes to standard error, which image it is to standard output.
pub fn pull(command: &PullCommand, admin: &dyn Admin) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(follow(&command.image, admin)) {
        Ok(Ok(told)) => ask::put(&format!("{}\n", words::foreign(&told, NAMES))),
        Ok(Err(why)) => {
            let image = &command.image;
            ask::complain(&format!("{image} cannot be had: {why}"));
            Exit::Unexpected
        }
        Err(error) => ask::unanswered(&error),
    }
}

/// Shows the pull's progress; returns the image by its digest, or why it cannot be had.
async fn follow(image: &str, admin: &dyn Admin) -> Result<Result<String, String>, AdminError> {
    // Empty: the worker sees by the socket who asks.
    let mut steps = admin.pull(&Caller::default(), image).await?;
    while let Some(step) = steps.next().await {
        match step? {
            PullStep::Line(line) => eprintln!("{}", words::foreign(&line, NAMES)),
            PullStep::Here(told) => return Ok(Ok(told)),
            PullStep::Failed(why) => return Ok(Err(why)),
        }
    }
    Err(AdminError::Lost("the pull has no end".into()))
}

fn table(images: &[ImageView], now: SystemTime) -> String {
    let head = ["IMAGE", "ID", "SIZE", "TASKS", "PULLED", "USED"].map(str::to_owned);
    let ago = |time: SystemTime| {
        let age = now.duration_since(time).unwrap_or_default();
        format!("{} ago", words::time(age))
    };
    let row = |image: &ImageView| {
        let names = match image.names.as_slice() {
            [] => image.told.clone(),
            names => names.join(", "),
        };
        let (pulled, used) = image.ours.unzip();
        // An image that the worker did not pull has no times.
        let when = |time: Option<SystemTime>| time.map_or_else(|| "-".to_owned(), ago);
        [
            words::foreign(&names, NAMES),
            short(&image.id),
            size(image.bytes),
            image.tasks.to_string(),
            when(pulled),
            when(used),
        ]
    };
    let rows: Vec<_> = [head].into_iter().chain(images.iter().map(row)).collect();
    columns::aligned(&rows)
}

fn short(id: &str) -> String {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    words::foreign(&digits.chars().take(ID).collect::<String>(), ID)
}

/// `3.5 MiB`.
fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    match mebibytes < 1_024.0 {
        true => format!("{mebibytes:.1} MiB"),
        false => format!("{:.1} GiB", mebibytes / 1_024.0),
    }
}

/// One object on one line; nothing is cut.
fn line(images: &[ImageView]) -> String {
    let images = images.iter().map(|image| {
        let (pulled, used) = image.ours.unzip();
        json!({
            "names": image.names,
            "image": image.told,
            "id": image.id,
            "bytes": image.bytes,
            "tasks": image.tasks,
            "ours": image.ours.is_some(),
            "pulled": moment(pulled),
            "used": moment(used),
        })
    });
    let images: Vec<_> = images.collect();
    format!(
        "{}\n",
        json!({ "version": words::JSON_VERSION, "images": images })
    )
}

fn moment(time: Option<SystemTime>) -> Value {
    let time = time.and_then(|time| Timestamp::try_from(time).ok());
    time.map_or(Value::Null, |time| format!("{time:.3}").into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn images() -> Vec<ImageView> {
        let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(3_600 * hours);
        let foreign = ImageView {
            names: vec!["docker.io/library/busybox:latest".into(), "mine:1".into()],
            told: "sha256:0123456789abcdef".into(),
            id: "sha256:0123456789abcdef".into(),
            bytes: 4 << 20,
            tasks: 0,
            ours: None,
        };
        let ours = ImageView {
            names: vec![],
            told: "r/a@sha256:1".into(),
            id: "sha256:fedcba9876543210".into(),
            bytes: 3 << 30,
            tasks: 2,
            ours: Some((at(0), at(47))),
        };
        vec![ours, foreign]
    }

    #[test]
    fn a_person_sees_whose_an_image_is_by_its_times() {
        let now = UNIX_EPOCH + Duration::from_secs(3_600 * 48);

        assert_eq!(
            table(&images(), now),
            "\
IMAGE                                     ID            SIZE     TASKS  PULLED  USED
r/a@sha256:1                              fedcba987654  3.0 GiB  2      2d ago  1h ago
docker.io/library/busybox:latest, mine:1  0123456789ab  4.0 MiB  0      -       -
"
        );
    }

    #[test]
    fn a_program_is_told_what_a_person_is() {
        let told: Value = serde_json::from_str(&line(&images())).unwrap();

        assert_eq!(told["version"], 1);
        let (ours, foreign) = (&told["images"][0], &told["images"][1]);
        assert_eq!(ours["ours"], true);
        assert_eq!(ours["used"], "1970-01-02T23:00:00.000Z");
        assert_eq!(ours["tasks"], 2);
        assert_eq!(foreign["pulled"], Value::Null);
        assert_eq!(foreign["names"][1], "mine:1");
    }
}
