//! What people want to know of a certificate: the names in it, and how long it is good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, log};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::domain::text::escape;

const DAY: Duration = Duration::from_secs(86_400);

/// With fewer days left than this, the log says so every day.
const LITTLE: u64 = 30;

/// How many names of one certificate are looked at, and how many bytes a name may have; longer ones are left out.
const NAMES: usize = 100;
const NAME_LIMIT: usize = 253;

/// What counts here of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Certificate {
    /// The host names that it is for, then the common name of its owner.
    pub(in super::super) names: Vec<String>,
    /// The time until which it is good.
    until: SystemTime,
}

/// How long a certificate is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// This many whole days.
    Days(u64),
    /// It ran out this many days ago.
    OverFor(u64),
}

impl Certificate {
    /// Reads a certificate; `None`: the bytes are none.
    pub(in super::super) fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let until = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let hosts = alternatives
            .iter()
            .flat_map(|names| &names.value.general_names);
        let hosts = hosts.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
        let subject = certificate.subject();
        let common = subject.iter_common_name();
        let common = common.filter_map(|name| name.as_str().ok());
        let mut names: Vec<String> = Vec::new();
        for name in hosts.chain(common).take(NAMES) {
            if name.len() <= NAME_LIMIT && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Some(Self {
            names,
            until: UNIX_EPOCH + Duration::from_secs(until),
        })
    }

    /// The time until which the certificate is good.
    pub(super) fn until(&self) -> SystemTime {
        self.until
    }

    /// How long the certificate is good, seen from `now`.
    pub(super) fn remaining(&self, now: SystemTime) -> Remaining {
        let days = |time: Duration| time.as_secs() / DAY.as_secs();
        match self.until.duration_since(now) {
            Ok(left) => Remaining::Days(days(left)),
            Err(over) => Remaining::OverFor(days(over.duration())),
        }
    }

    fn shown(&self) -> String {
        match self.names.first() {
            Some(name) => escape(name, NAME_LIMIT),
            None => "nobody".to_owned(),
        }
    }
}

impl Remaining {
    /// Whether to say it again after `said` was said: once a day where it is little.
    pub(super) fn is_news_after(self, said: Option<Self>) -> bool {
        self.is_little() && said != Some(self)
    }

    fn is_little(self) -> bool {
        match self {
            Self::Days(days) => days < LITTLE,
            Self::OverFor(_) => true,
        }
    }

    /// Logs it at its level.
    pub(super) fn say(self, certificate: &Certificate) {
        let (level, words) = (self.level(), self.words(certificate));
        let until = humantime::format_rfc3339_seconds(certificate.until);
        match self {
            Self::Days(days) => log!(level, days, until:%; "{words}"),
            Self::OverFor(_) => log!(level, until:%; "{words}"),
        }
    }

    /// The level at which it is logged.
    pub(super) fn level(self) -> Level {
        match self {
            Self::Days(_) if self.is_little() => Level::Warn,
            Self::Days(_) => Level::Info,
            Self::OverFor(_) => Level::Error,
        }
    }

    /// The same in words, with what to do.
    pub(super) fn words(self, certificate: &Certificate) -> String {
        let name = certificate.shown();
        let until = humantime::format_rfc3339_seconds(certificate.until);
        match self {
            Self::Days(days) => {
                let advice = match self.is_little() {
                    true => "; put a new one into its file",
                    false => "",
                };
                format!(
                    "the certificate of {name} (--tls-cert) is good for {days} more days, until {until}{advice}"
                )
            }
            Self::OverFor(_) => format!(
                "the certificate of {name} (--tls-cert) ran out at {until}: nobody trusts it; put a new one into its file"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn the_names_and_the_last_day_of_a_certificate_are_known() {
        let mut params =
            CertificateParams::new(["b.example".into(), "c.example".into(), "10.0.0.1".into()])
                .unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "The Master");
        params.not_after = rcgen::date_time_ymd(2030, 6, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let certificate = Certificate::read(made.der()).unwrap();
        let until: SystemTime = rcgen::date_time_ymd(2030, 6, 1).into();

        assert_eq!(certificate.names, ["b.example", "c.example", "The Master"]);
        for (now, remaining, is_little) in [
            (until - 31 * DAY, Remaining::Days(31), false),
            (until - 30 * DAY, Remaining::Days(30), false),
            (
                until - 30 * DAY + Duration::from_secs(1),
                Remaining::Days(29),
                true,
            ),
            (until - Duration::from_secs(1), Remaining::Days(0), true),
            (until + Duration::from_secs(1), Remaining::OverFor(0), true),
            (until + 3 * DAY, Remaining::OverFor(3), true),
        ] {
            let found = certificate.remaining(now);
            assert_eq!((found, found.is_little()), (remaining, is_little));
        }
        assert_eq!(Certificate::read(b"none"), None);
    }

    #[test]
    fn it_is_said_once_a_day_from_thirty_days_before_the_end_and_after_it() {
        let until = UNIX_EPOCH + 100 * DAY;
        let certificate = Certificate {
            names: Vec::new(),
            until,
        };
        let looks = |from: SystemTime, days: u32| {
            let mut said = Some(certificate.remaining(from));
            let mut count = 0;
            for hour in 0..24 * days {
                let remaining = certificate.remaining(from + hour * (DAY / 24));
                count += u32::from(remaining.is_news_after(said));
                said = Some(remaining);
            }
            count
        };

        assert_eq!(looks(until - 60 * DAY, 30), 0);
        assert_eq!(looks(until - 40 * DAY, 20), 10);
        assert_eq!(looks(until - 10 * DAY, 20), 20);
    }
}
