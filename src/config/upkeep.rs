//! The flags about which images that were pulled for tasks are removed again.

use std::time::Duration;

use super::{
    DAY, RunArgs,
    amount::{Range, read_time},
    check::Check,
};
use crate::domain::shelf::Upkeep;

pub(super) fn upkeep(args: &RunArgs, check: &mut Check) -> Option<Upkeep> {
    let max_age = check.value("--image-max-age", &args.image_max_age, |text| {
        read_time(text, Range::new(Duration::ZERO, 365 * DAY))
    });
    let high = check.value("--image-gc-high", &args.image_gc_high, read_percent);
    let low = check.value("--image-gc-low", &args.image_gc_low, |text| {
        let low = read_percent(text)?;
        match high {
            Some(high) if low >= high => Err(format!("is not below --image-gc-high, {high}")),
            Some(_) | None => Ok(low),
        }
    });
    Some(Upkeep {
        max_age: max_age.map(|age| (!age.is_zero()).then_some(age))?,
        high: high?,
        low: low?,
    })
}

fn read_percent(text: &str) -> Result<u8, String> {
    let percent = text.parse().ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| "is no number of percent; give 0 to 100".into())
}
