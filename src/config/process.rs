//! The flags about how the process behaves: what a failure means for it, what a stop means for its tasks, how its log looks.

use std::time::Duration;

use super::{
    DAY, HOUR, MAX_RESTARTS, ProcessConfig, RestartLimits, SECOND,
    amount::{Range, read_time},
    args::RunArgs,
    check::Check,
    choice::{self, OnStop, WhenAway, WhenSubsystemFails},
};

pub(super) fn process(args: &RunArgs, check: &mut Check) -> Option<ProcessConfig> {
    let supervise = check.switch("--supervise", &args.supervise);
    let restarts = restarts(args, check);
    let fail_fast = check.switch("--fail-fast", &args.fail_fast);
    let on_stop = check.value("--on-stop", &args.on_stop, OnStop::read);
    let log_format = check.value("--log-format", &args.log_format, choice::read_log_format);
    Some(ProcessConfig {
        when_subsystem_fails: if supervise? {
            WhenSubsystemFails::Restart
        } else {
            WhenSubsystemFails::EndProcess
        },
        restarts: restarts?,
        when_away: if fail_fast? {
            WhenAway::EndProcess
        } else {
            WhenAway::KeepTrying
        },
        on_stop: on_stop?,
        log_format: log_format?,
    })
}

fn restarts(args: &RunArgs, check: &mut Check) -> Option<RestartLimits> {
    let intensity = check.value("--restart-intensity", &args.restart_intensity, |text| {
        let number = text.parse::<u32>().ok();
        number
            .filter(|number| *number <= MAX_RESTARTS)
            .ok_or_else(|| format!("is no number from 0 to {MAX_RESTARTS}"))
    });
    let period = check.value("--restart-period", &args.restart_period, |text| {
        read_time(text, Range::new(SECOND, DAY))
    });
    let backoff = check.value("--restart-backoff", &args.restart_backoff, |text| {
        read_time(text, Range::new(Duration::ZERO, HOUR))
    });
    let longest = check.value("--restart-backoff-max", &args.restart_backoff_max, |text| {
        // At least the first delay: a cap below that is a mistake in one of the two.
        read_time(text, Range::new(backoff.unwrap_or_default(), HOUR))
    });
    Some(RestartLimits {
        intensity: intensity?,
        period: period?,
        backoff: backoff?,
        backoff_max: longest?,
    })
}
