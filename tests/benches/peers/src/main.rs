//! The work of the supervision benchmark, done by one of the peers: `peers LIBRARY PART AMOUNT` prints its figures.

mod kameo_side;
mod ractor_side;
mod work;

use std::io::Write as _;

use kameo_side::{Kameo, PlainKameo, ThreadKameo};
use ractor_side::{PlainRactor, Ractor};

#[tokio::main]
async fn main() {
    work::silence_planned_panics();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [library, part, amount] = &arguments[..] else {
        panic!("usage: peers LIBRARY PART AMOUNT");
    };
    let amount = amount.parse().expect("AMOUNT is a number");
    let figures = match library.as_str() {
        "ractor" => work::perform::<Ractor>(part, amount).await,
        "ractor-plain" => work::perform::<PlainRactor>(part, amount).await,
        "kameo" => work::perform::<Kameo>(part, amount).await,
        "kameo-thread" => work::perform::<ThreadKameo>(part, amount).await,
        "kameo-plain" => work::perform::<PlainKameo>(part, amount).await,
        _ => panic!("LIBRARY is ractor or kameo, or one of these with -plain, or kameo-thread"),
    };
    write!(std::io::stdout(), "{figures}").expect("somebody reads it");
}
