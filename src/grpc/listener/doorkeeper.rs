//! Who may connect at all, judged by the address before a byte is read. Whoever is turned away is counted, and said once a minute.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use log::{debug, warn};
use tokio::{net::lookup_host, sync::watch, time::Instant};

use crate::{
    domain::callers::{Addresses, AllowFrom},
    ports::master::MasterAddress,
};

/// How often it is looked up what the master's name stands for: about as long as a name server lets an answer be kept.
const LOOK_UP: Duration = Duration::from_secs(60);

/// How often it is said that somebody was turned away.
const SAY: Duration = Duration::from_secs(60);

/// See the module.
pub struct Doorkeeper {
    allow: AllowFrom,
    master: watch::Receiver<MasterAddress>,
    tasks: watch::Receiver<Vec<IpNet>>,
    /// What the master's name stood for when it was last looked up.
    found: Mutex<Vec<IpAddr>>,
    turned_away: Mutex<TurnedAway>,
}

#[derive(Default)]
struct TurnedAway {
    said: Option<Instant>,
    since: u64,
}

impl Doorkeeper {
    /// Lets in whom `allow` does, of a master at that address and of tasks in those networks.
    #[must_use]
    pub fn new(
        allow: AllowFrom,
        master: watch::Receiver<MasterAddress>,
        tasks: watch::Receiver<Vec<IpNet>>,
    ) -> Self {
        Self {
            allow,
            master,
            tasks,
            found: Mutex::default(),
            turned_away: Mutex::default(),
        }
    }

    /// Lets everybody in.
    #[must_use]
    pub fn of_an_open_door() -> Self {
        let nowhere = watch::Sender::new(MasterAddress(String::new()));
        let no_networks = watch::Sender::new(Vec::new());
        Self::new(
            AllowFrom::default(),
            nowhere.subscribe(),
            no_networks.subscribe(),
        )
    }

    /// Whether somebody at this address may connect.
    pub(super) fn admits(&self, caller: IpAddr) -> bool {
        let known = Addresses {
            master: lock(&self.found).clone(),
            tasks: self.tasks.borrow().clone(),
        };
        let is_admitted = self.allow.admits(caller, &known);
        if !is_admitted {
            self.turn_away(caller);
        }
        is_admitted
    }

    fn turn_away(&self, caller: IpAddr) {
        let mut turned_away = lock(&self.turned_away);
        turned_away.since += 1;
        if turned_away.said.is_some_and(|said| said.elapsed() < SAY) {
            return;
        }
        let count = std::mem::take(&mut turned_away.since);
        turned_away.said = Some(Instant::now());
        drop(turned_away);
        let (caller, allow) = (caller.to_canonical(), &self.allow);
        warn!(
            caller:%, count, allow:%;
            "a caller at {caller} was turned away: --allow-from {allow} does not let it in ({count} turned away since this was \
             last said); if it is the master, give --allow-from its address too"
        );
    }

    /// Looks up the master's addresses, again and again.
    pub(super) async fn watch(self: Arc<Self>) -> Infallible {
        let mut master = self.master.clone();
        loop {
            let address = master.borrow_and_update().clone();
            match lookup_host(&address.0).await {
                Ok(found) => {
                    let found = found.map(|address| address.ip().to_canonical());
                    *lock(&self.found) = found.collect();
                }
                // What it stood for before is the best that there is.
                Err(error) => debug!(master = address.0, error:%; "the master's name is not found"),
            }
            // The sender lives as long as the process; where it does not, the minute passes all the same.
            tokio::select! {
                Ok(()) = master.changed() => lock(&self.found).clear(),
                () = tokio::time::sleep(LOOK_UP) => {}
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_master_is_known_by_what_its_name_stands_for_and_the_old_one_no_more() {
        let master = watch::Sender::new(MasterAddress("127.0.0.1:1".into()));
        let tasks = watch::Sender::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let allow = AllowFrom::default();
        let keeper = Doorkeeper::new(allow, master.subscribe(), tasks.subscribe());
        let keeper = Arc::new(keeper);
        let [old, new]: [IpAddr; 2] = ["127.0.0.1", "127.0.0.2"].map(|ip| ip.parse().unwrap());
        let known = async |ip: IpAddr| {
            while !keeper.admits(ip) {
                tokio::task::yield_now().await;
            }
        };

        let watching = tokio::spawn(Arc::clone(&keeper).watch());
        known(old).await;
        assert!(!keeper.admits(new));
        master.send_replace(MasterAddress("127.0.0.2:1".into()));
        known(new).await;
        assert!(!keeper.admits(old));
        watching.abort();
    }
}
