//! Who may do what: a table of workers that want different things, callers that show different things, and every method. Each
//! cell is a call over a real socket, and what it changed.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use worker_node::{
    domain::callers::MasterNames,
    grpc::{
        keys::{KeyFiles, Keys, NamedFile},
        listener::{Doorkeeper, Limits},
    },
    ports::{clock::SystemClock, master::MasterAddress},
    proto::master_worker_client::MasterWorkerClient,
};

use crate::{
    authority::{Authority, Signed, put},
    dialled::channel,
    doors::{METHODS, WORKER, answers, changes, files},
    fakes::Node,
};

use Shows::{Certificate, Master, Nothing};

const TOKEN: &str = "fd7f0ed1b9a64cc3";

/// What a worker wants.
#[derive(Debug, Clone, Copy)]
struct Wants {
    certificate: bool,
    masters_name: bool,
    token: bool,
    address: &'static str,
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shows {
    Nothing,
    /// A certificate of the authority.
    Certificate,
    /// One with the master's name.
    Master,
}

/// Says the token, if one is given.
#[derive(Clone)]
pub(crate) struct Saying(Option<MetadataValue<Ascii>>);

impl Interceptor for Saying {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = self.0.clone() {
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

type Client = MasterWorkerClient<InterceptedService<Channel, Saying>>;

/// A worker, and those who might call it.
struct Scene {
    node: Node,
    wants: Wants,
    authority: Authority,
    neighbour: Signed,
    master: Signed,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn of(wants: Wants) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(folder.path());
        authority.sign(&[WORKER]).write(folder.path());
        let certificates = match wants.certificate {
            true => files(folder.path()),
            false => KeyFiles::default(),
        };
        let token = NamedFile {
            flag: "--token-file",
            path: put(folder.path(), "token", TOKEN),
        };
        let token = wants.token.then_some((token, Duration::from_secs(600)));
        let keys = Keys::open(
            KeyFiles {
                token,
                ..certificates
            },
            Arc::new(SystemClock),
        )
        .unwrap();
        let names = match wants.masters_name {
            true => vec!["master.example".to_owned()],
            false => Vec::new(),
        };
        let doorkeeper = Doorkeeper::new(
            wants.address.parse().unwrap(),
            watch::Sender::new(MasterAddress(String::new())).subscribe(),
            watch::Sender::new(Vec::new()).subscribe(),
        );
        let doorkeeper = doorkeeper.with_keys(Arc::new(keys), MasterNames::new(names));
        Self {
            node: Node::start_behind(doorkeeper, Limits::default()).await,
            wants,
            neighbour: authority.sign(&["neighbour.example"]),
            master: authority.sign(&["master.example"]),
            authority,
            _folder: folder,
        }
    }

    fn client(&self, shows: Shows, token: Option<&str>) -> Client {
        let own = match shows {
            Shows::Nothing => None,
            Shows::Certificate => Some(&self.neighbour),
            Shows::Master => Some(&self.master),
        };
        let channel = match self.wants.certificate {
            true => channel(&self.node.address, WORKER, self.authority.calling(own)),
            false => {
                let endpoint = Endpoint::from_shared(format!("http://{}", self.node.address));
                endpoint.unwrap().connect_lazy()
            }
        };
        let token = token.map(|token| format!("Bearer {token}").parse().unwrap());
        MasterWorkerClient::with_interceptor(channel, Saying(token))
    }

    /// One row: a letter for each method, in the order of [`METHODS`].
    async fn row(&self, shows: Shows, token: Option<&str>) -> String {
        let before = changes(&self.node);
        let answers = answers(&mut self.client(shows, token), &self.node).await;
        let letters: String = answers.into_iter().map(letter).collect();
        // Of the changes the fake worker counts offers and moves.
        let expected = letters
            .chars()
            .step_by(2)
            .filter(|done| *done == 'y')
            .count();
        assert_eq!(changes(&self.node) - before, expected, "{letters}");
        letters
    }
}

/// y: it was done. u: the caller is nobody. d: he may not. x: there was no connection to ask over.
fn letter(answer: Result<(), Code>) -> char {
    match answer {
        Ok(()) => 'y',
        Err(Code::Unauthenticated) => 'u',
        Err(Code::PermissionDenied) => 'd',
        Err(Code::Unavailable | Code::Unknown | Code::Cancelled) => 'x',
        Err(code) => panic!("{code:?}"),
    }
}

/// What is shown, and the letters of the methods.
type Row = (Shows, Option<&'static str>, &'static str);

const RIGHT: Option<&str> = Some(TOKEN);
const WRONG: Option<&str> = Some("fd7f0ed1b9a64cc4");

const NOTHING: Wants = Wants {
    certificate: false,
    masters_name: false,
    token: false,
    address: "any",
};
const A_CERTIFICATE: Wants = Wants {
    certificate: true,
    ..NOTHING
};
const A_NAME: Wants = Wants {
    masters_name: true,
    ..A_CERTIFICATE
};
const A_TOKEN: Wants = Wants {
    token: true,
    ..NOTHING
};
const ALL: Wants = Wants {
    token: true,
    ..A_NAME
};
const ALL_FROM_ELSEWHERE: Wants = Wants {
    address: "10.0.0.0/8",
    ..ALL
};
const FROM_ELSEWHERE: Wants = Wants {
    address: "10.0.0.0/8",
    ..NOTHING
};
const A_TOKEN_FROM_HERE: Wants = Wants {
    address: "127.0.0.0/8",
    ..A_TOKEN
};

const TABLE: &[(Wants, &[Row])] = &[
    (
        NOTHING,
        &[(Nothing, None, "yyyy"), (Nothing, WRONG, "yyyy")],
    ),
    (
        A_CERTIFICATE,
        &[
            (Nothing, None, "xxxx"),
            (Nothing, RIGHT, "xxxx"),
            (Certificate, None, "yyyy"),
            (Master, None, "yyyy"),
        ],
    ),
    (
        A_NAME,
        &[
            (Nothing, RIGHT, "xxxx"),
            (Certificate, None, "dddy"),
            (Certificate, RIGHT, "dddy"),
            (Master, None, "yyyy"),
        ],
    ),
    (
        A_TOKEN,
        &[
            (Nothing, None, "uuuu"),
            (Nothing, WRONG, "uuuu"),
            (Nothing, RIGHT, "yyyy"),
        ],
    ),
    (
        ALL,
        &[
            (Nothing, RIGHT, "xxxx"),
            (Certificate, None, "uuuu"),
            (Certificate, RIGHT, "dddy"),
            (Master, None, "uuuu"),
            (Master, WRONG, "uuuu"),
            (Master, RIGHT, "yyyy"),
        ],
    ),
    (
        FROM_ELSEWHERE,
        &[(Nothing, None, "xxxx"), (Nothing, RIGHT, "xxxx")],
    ),
    (
        ALL_FROM_ELSEWHERE,
        &[(Nothing, None, "xxxx"), (Master, RIGHT, "xxxx")],
    ),
    (
        A_TOKEN_FROM_HERE,
        &[(Nothing, None, "uuuu"), (Nothing, RIGHT, "yyyy")],
    ),
];

#[tokio::test]
async fn who_may_do_what_holds_in_every_cell() {
    assert_eq!(
        METHODS,
        [
            "AssignTask",
            "CancelTask",
            "MasterRegister",
            "StreamTaskLogs"
        ]
    );
    for (wants, rows) in TABLE {
        let scene = Scene::of(*wants).await;
        for (shows, token, expected) in *rows {
            let row = scene.row(*shows, *token).await;
            assert_eq!(row, *expected, "{wants:?}; shown: {shows:?}, {token:?}");
        }
    }
}

#[tokio::test]
async fn a_caller_who_is_refused_is_not_told_what_would_have_been_right() {
    let scene = Scene::of(A_TOKEN).await;
    let mut client = scene.client(Shows::Nothing, Some("guessed-by-somebody"));

    let refused = client
        .master_register(worker_node::proto::MasterInfo::default())
        .await;

    let told = format!("{:?}", refused.unwrap_err());
    assert!(told.contains("--token-file"), "{told}");
    assert!(!told.contains(TOKEN) && !told.contains("guessed"), "{told}");
}
