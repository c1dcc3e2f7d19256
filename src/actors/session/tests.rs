//! When the session registers, on a paused clock, with a scripted master.

use std::sync::atomic::{AtomicUsize, Ordering};

use actix::Addr;
use async_trait::async_trait;

use super::*;
use crate::{
    domain::{id::WorkerId, spec::MachineTotals},
    ports::master::{Beat, Report, Upload, Uploaded},
    supervision::slot,
};

/// A master that takes a while for each registration; it never answers at `hangs`, and refuses at `refuses`.
#[derive(Default)]
struct SlowMaster {
    begun: Mutex<Vec<(Instant, String)>>,
    ended: AtomicUsize,
}

/// How long a registration takes: less than the pace.
const TAKES: Duration = Duration::from_millis(300);

async fn pass(time: Duration) {
    let never = std::future::pending::<()>();
    assert!(timeout(time, never).await.is_err());
}

#[async_trait]
impl Master for SlowMaster {
    async fn register(&self, master: &MasterAddress, _: Registration) -> Result<(), MasterError> {
        let now = Instant::now();
        self.begun.lock().unwrap().push((now, master.0.clone()));
        if master.0 == "hangs:1" {
            std::future::pending::<()>().await;
        }
        pass(TAKES).await;
        self.ended.fetch_add(1, Ordering::Relaxed);
        match master.0.as_str() {
            "refuses:1" => Err(MasterError::Refused("no".into())),
            _ => Ok(()),
        }
    }

    async fn heartbeat(&self, _: &MasterAddress, _: Beat) -> Result<(), MasterError> {
        unreachable!("the session sends none")
    }

    async fn upload(&self, _: &MasterAddress, _: Upload) -> Result<Uploaded, MasterError> {
        unreachable!("the session sends none")
    }

    async fn report(&self, _: &MasterAddress, _: Report) -> Result<(), MasterError> {
        unreachable!("the session sends none")
    }
}

struct Stage {
    master: Arc<SlowMaster>,
    view: Arc<MasterView>,
    session: Addr<SessionActor>,
}

impl Stage {
    fn start(address: &str) -> Self {
        Self::start_with(address, Pin::Free)
    }

    fn start_with(address: &str, pin: Pin) -> Self {
        tokio::time::pause();
        let configured = MasterAddress(address.into());
        let (master, view) = (
            Arc::new(SlowMaster::default()),
            Arc::new(MasterView::new(configured.clone())),
        );
        let peers = SessionPeers {
            master: master.clone(),
            view: Arc::clone(&view),
            engine: Arc::default(),
            // There is no journal: the answers do not wait for it.
            records: Records(slot("journal").0),
        };
        let registration = Registration {
            worker: WorkerId::new("w").unwrap(),
            address: "w:1".into(),
            totals: MachineTotals::default(),
        };
        let session = SessionActor::new(peers, registration, (configured, pin));
        Self {
            master,
            view,
            session: session.start(),
        }
    }

    async fn wish(&self, address: Option<&str>) {
        let address = address.map(|address| MasterAddress(address.into()));
        self.session
            .send(MasterIsAt(address))
            .await
            .unwrap()
            .unwrap();
    }

    fn begun(&self) -> Vec<(Instant, String)> {
        self.master.begun.lock().unwrap().clone()
    }

    fn ended(&self) -> usize {
        self.master.ended.load(Ordering::Relaxed)
    }

    async fn registered(&self) {
        let mut registered = self.view.registered();
        registered.wait_for(|registered| *registered).await.unwrap();
    }
}

#[actix::test]
async fn a_storm_of_wishes_is_at_most_one_registration_a_second_and_none_is_cut_short() {
    let stage = Stage::start("m:1");
    stage.registered().await;

    for _ in 0..1_000 {
        stage.wish(None).await;
        pass(Duration::from_millis(10)).await;
    }
    pass(3 * PACE).await;

    let begun = stage.begun();
    assert!((9..=13).contains(&begun.len()), "{}", begun.len());
    let spaced = |pair: &[(Instant, String)]| pair[1].0 - pair[0].0 >= PACE;
    assert!(begun.windows(2).all(spaced), "{begun:?}");
    assert_eq!(stage.ended(), begun.len());
    assert!(*stage.view.registered().borrow());
}

#[actix::test]
async fn a_storm_that_names_two_masters_in_turn_cuts_none_short_either() {
    let stage = Stage::start("m:1");
    stage.registered().await;

    for round in 0..1_000 {
        let at = if round % 2 == 0 { "a:1" } else { "b:1" };
        stage.wish(Some(at)).await;
        pass(Duration::from_millis(10)).await;
    }
    stage.registered().await;
    pass(3 * PACE).await;

    let begun = stage.begun();
    assert!(begun.len() <= 15, "{}", begun.len());
    assert_eq!(stage.ended(), begun.len());
    assert_eq!(begun.last().unwrap().1, "b:1");
}

#[actix::test]
async fn a_wish_hurries_a_registration_that_waits_for_its_next_try() {
    let stage = Stage::start("refuses:1");
    pass(Duration::from_secs(60)).await;
    let before = stage.begun().len();

    stage.wish(None).await;
    pass(2 * PACE).await;

    assert!(stage.begun().len() > before);
}

#[actix::test]
async fn a_move_overtakes_a_registration_that_hangs() {
    let stage = Stage::start("hangs:1");
    pass(Duration::from_secs(3)).await;
    let wished = Instant::now();

    stage.wish(Some("m:1")).await;
    stage.registered().await;

    assert!(wished.elapsed() <= 2 * PACE + TAKES);
    let addresses: Vec<_> = stage.begun().into_iter().map(|(_, at)| at).collect();
    assert_eq!(addresses, ["hangs:1", "m:1"]);
}

async fn stays(pin: Pin, refused: MoveError) {
    let stage = Stage::start_with("m:1", pin);
    stage.registered().await;

    let moved = MasterIsAt(Some(MasterAddress("other:1".into())));
    assert_eq!(stage.session.send(moved).await.unwrap(), Err(refused));
    stage.wish(Some("m:1")).await;
    pass(2 * PACE).await;

    let addresses: Vec<_> = stage.begun().into_iter().map(|(_, at)| at).collect();
    assert_eq!(addresses, ["m:1", "m:1"]);
    assert_eq!(stage.view.address().0, "m:1");
}

#[actix::test]
async fn a_pinned_worker_stays_and_registers_where_it_is() {
    stays(Pin::Pinned, MoveError::Pinned).await;
}

#[actix::test]
async fn a_worker_follows_nobody_who_has_not_shown_who_he_is() {
    stays(Pin::Unproven, MoveError::Unproven).await;
}
