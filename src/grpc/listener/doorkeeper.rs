//! Who may come in: by the address before a byte is read, by a certificate and a token where they are wanted, and by the names in
//! the certificate where a call changes something. Callers that are turned away are counted, and said once a minute.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use log::{debug, warn};
use tokio::{net::lookup_host, sync::watch};
use tonic::codegen::http::HeaderValue;

use super::tally::Tally;
use crate::{
    domain::{
        callers::{Addresses, AllowFrom, Caller, MasterNames},
        text::escape,
    },
    grpc::{keys::Keys, status::Stranger},
    ports::{
        audit::{Audit, NoAudit},
        master::MasterAddress,
    },
};

/// Time between two look-ups of the master's name: about as long as a name server lets an answer be kept.
const LOOK_UP: Duration = Duration::from_secs(60);

/// Bytes of a peer's words that are shown.
const SHOWN: usize = 256;

/// The methods that change something.
const CHANGING: [&str; 3] = [
    "/cluster.MasterWorker/AssignTask",
    "/cluster.MasterWorker/CancelTask",
    "/cluster.MasterWorker/MasterRegister",
];

/// Decides which callers may connect, and which calls they may make.
pub struct Doorkeeper {
    allow: AllowFrom,
    master: watch::Receiver<MasterAddress>,
    tasks: watch::Receiver<Vec<IpNet>>,
    /// The addresses that the master's name stood for when it was last looked up.
    found: Mutex<Vec<IpAddr>>,
    keys: Arc<Keys>,
    names: MasterNames,
    audit: Arc<dyn Audit>,
    /// Callers turned away by their address.
    turned_away: Tally,
    /// Callers that failed in the handshake.
    unshaken: Tally,
    /// Calls that were refused.
    refused: Tally,
}

impl Doorkeeper {
    /// A doorkeeper that lets in the callers of `allow`; the master is at that address, and tasks are in those networks.
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
            keys: Arc::default(),
            names: MasterNames::default(),
            audit: Arc::new(NoAudit),
            turned_away: Tally::default(),
            unshaken: Tally::default(),
            refused: Tally::default(),
        }
    }

    /// Also asks callers for what `keys` say, and those who change something for a certificate with one of `names`.
    #[must_use]
    pub fn with_keys(self, keys: Arc<Keys>, names: MasterNames) -> Self {
        Self {
            keys,
            names,
            ..self
        }
    }

    /// Also has it written down who changed what.
    #[must_use]
    pub fn with_audit(self, audit: Arc<dyn Audit>) -> Self {
        Self { audit, ..self }
    }

    /// The book of who changed what.
    pub(super) fn audit(&self) -> Arc<dyn Audit> {
        Arc::clone(&self.audit)
    }

    /// A doorkeeper that lets everybody in.
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

    /// Whether a caller at this address may connect. One that may not is counted.
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
        let Some(count) = self.turned_away.count() else {
            return;
        };
        let (caller, allow) = (caller.to_canonical(), &self.allow);
        warn!(
            caller:%, count, allow:%;
            "a caller at {caller} was turned away: --allow-from {allow} does not let it in ({count} turned away since this was \
             last said); if it is the master, give --allow-from its address too"
        );
    }

    /// The keys that connections begin with.
    pub(super) fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// Counts a caller that did not come through the handshake.
    pub(super) fn unshaken(&self, caller: SocketAddr, why: &io::Error) {
        let Some(count) = self.unshaken.count() else {
            return;
        };
        let (caller, why) = (caller.ip().to_canonical(), escape(&why.to_string(), SHOWN));
        warn!(
            caller:%, count;
            "a caller at {caller} did not come through the TLS handshake: {why} ({count} did not since this was last said)"
        );
    }

    /// Whether a caller may make a call. A call that is refused is counted.
    pub(crate) fn judge(
        &self,
        method: &str,
        authorization: Option<&HeaderValue>,
        caller: &Caller,
    ) -> Result<(), Stranger> {
        if !self.keys.admit(authorization) {
            return Err(self.refuse(caller, Stranger::Token));
        }
        if CHANGING.contains(&method) && !self.names.admit(&caller.certificate) {
            return Err(self.refuse(caller, Stranger::Name));
        }
        Ok(())
    }

    fn refuse(&self, caller: &Caller, why: Stranger) -> Stranger {
        if let Some(count) = self.refused.count() {
            let address = caller.address.map(|address| address.ip().to_canonical());
            let address = address.map_or_else(|| "?".to_owned(), |address| address.to_string());
            let certificate = escape(&caller.certificate.join(", "), SHOWN);
            warn!(
                caller = address, certificate, count;
                "a call from {address} was refused: {why} ({count} refused since this was last said)"
            );
        }
        why
    }

    /// Looks up the master's addresses every `LOOK_UP`, and when its name changes, for ever.
    pub(super) async fn watch(self: Arc<Self>) -> Infallible {
        let mut master = self.master.clone();
        loop {
            let address = master.borrow_and_update().clone();
            match lookup_host(&address.0).await {
                Ok(found) => {
                    let found = found.map(|address| address.ip().to_canonical());
                    *lock(&self.found) = found.collect();
                }
                // The addresses of before stay: they are the best that there are.
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
