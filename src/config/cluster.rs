//! The flags about a worker's place in the cluster: its name, the address at which it is reached, its master, and how long that is
//! waited for.

use std::time::Duration;

use super::{
    ClusterConfig, DAY, ReportPatience, SECOND, UploadPatience,
    address::{ListenAddress, Reach},
    amount::{Range, read_time},
    args::RunArgs,
    check::Check,
    choice::MasterMoves,
    door,
};
use crate::{domain::id::WorkerId, ports::master::MasterAddress};

pub(super) fn cluster(args: &RunArgs, check: &mut Check) -> Option<ClusterConfig> {
    let worker = check.value("--id", &args.id, |id| {
        WorkerId::new(id).map_err(|error| format!("{error}; give a name such as worker-1"))
    });
    let reach = check.value("--ip", &args.ip, Reach::read);
    let listen = check.value("--port", &args.port, ListenAddress::read);
    let master = check.value("--master", &args.master, |master| {
        MasterAddress::parse(master).map_err(|error| error.to_string())
    });
    let master_moves = check.switch("--pin-master", &args.pin_master);
    let reflection = check.switch("--reflection", &args.reflection);
    let settle_time = check.value("--settle-time", &args.settle_time, |text| match text {
        "auto" => Ok(None),
        // With more than a minute, people would take every task for stuck.
        text => read_time(text, Range::new(Duration::ZERO, 60 * SECOND))
            .map(Some)
            .map_err(|error| format!("{error}, or auto")),
    });
    let door = door::door(args, check);
    let http = args.http.as_deref();
    let http = http.map(|http| check.value("--http", http, ListenAddress::read));
    let http = door::http(http, door.as_ref(), check);
    let (upload, report) = (upload(args, check), report(args, check));
    Some(ClusterConfig {
        worker: worker?,
        reach: reach?,
        listen: listen?,
        reflection: reflection?,
        http: http?,
        master: master?,
        master_moves: match (master_moves?, door.as_ref()?.proves_nothing()) {
            (true, _) => MasterMoves::Refused,
            (false, true) => MasterMoves::OfNobody,
            (false, false) => MasterMoves::Followed,
        },
        door: door?,
        settle_time: settle_time?,
        upload: upload?,
        report: report?,
    })
}

/// The times for which anybody would wait for a master.
fn patience() -> Range<Duration> {
    Range::new(SECOND / 10, DAY)
}

fn upload(args: &RunArgs, check: &mut Check) -> Option<UploadPatience> {
    let inactivity = check.value("--upload-inactivity", &args.upload_inactivity, |text| {
        read_time(text, patience())
    });
    let total = check.value("--upload-total", &args.upload_total, |text| {
        read_time(text, patience())
    });
    Some(UploadPatience {
        inactivity: inactivity?,
        total: total?,
    })
}

fn report(args: &RunArgs, check: &mut Check) -> Option<ReportPatience> {
    let timeout = check.value("--report-timeout", &args.report_timeout, |text| {
        read_time(text, patience())
    });
    let doubt = check.value("--report-doubt", &args.report_doubt, |text| {
        read_time(text, patience())
    });
    Some(ReportPatience {
        timeout: timeout?,
        doubt: doubt?,
    })
}
