//! Who may connect to the worker's port, by address alone (for a master that knows neither certificates nor tokens), and who may
//! change something, by the names in its certificate.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;

/// The longest name that a certificate is asked for, in bytes: what the domain name system knows.
const NAME_LIMIT: usize = 253;

/// The value of `--allow-from`: any number of `auto`, `any`, `master` and addresses. A caller comes in if one of them lets it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowFrom(Vec<Callers>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Callers {
    /// Everybody but the containers of tasks.
    Auto,
    /// Everybody.
    Any,
    /// The master's addresses.
    Master,
    /// The addresses of this network.
    Net(IpNet),
}

/// Whose addresses are known at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses that the master's name stands for.
    pub master: Vec<IpAddr>,
    /// The networks that the containers of tasks are in.
    pub tasks: Vec<IpNet>,
}

impl Default for AllowFrom {
    fn default() -> Self {
        Self(vec![Callers::Auto])
    }
}

impl AllowFrom {
    /// Whether a caller from this address may connect. The master always may.
    #[must_use]
    pub fn admits(&self, caller: IpAddr, known: &Addresses) -> bool {
        let caller = caller.to_canonical();
        known.master.contains(&caller)
            || self.0.iter().any(|callers| match callers {
                Callers::Any => true,
                Callers::Auto => !known.tasks.iter().any(|net| net.contains(&caller)),
                Callers::Master => false,
                Callers::Net(net) => net.contains(&caller),
            })
    }

    /// Whether strangers may connect, tasks aside.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let open = |callers: &Callers| matches!(callers, Callers::Any | Callers::Auto);
        self.0.iter().any(open)
    }

    /// Whether the containers of tasks may connect.
    #[must_use]
    pub fn admits_tasks(&self) -> bool {
        self.0.contains(&Callers::Any)
    }
}

impl FromStr for AllowFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim);
        words.map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn read(word: &str) -> Result<Callers, String> {
    match word {
        "auto" => return Ok(Callers::Auto),
        "any" => return Ok(Callers::Any),
        "master" => return Ok(Callers::Master),
        _ => {}
    }
    let net = word
        .parse::<IpNet>()
        .or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| Callers::Net(net.trunc())).map_err(|_| {
        "give auto, any, master or addresses such as 10.0.0.7 or 10.0.0.0/24, with commas between them".to_owned()
    })
}

impl fmt::Display for AllowFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, callers) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match callers {
                Callers::Auto => f.write_str("auto")?,
                Callers::Any => f.write_str("any")?,
                Callers::Master => f.write_str("master")?,
                Callers::Net(net) => write!(f, "{net}")?,
            }
        }
        Ok(())
    }
}

/// What is known of a caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The address that the call comes from, over the network.
    pub address: Option<SocketAddr>,
    /// The names in the certificate that was shown and is good; empty without a certificate.
    pub certificate: Vec<String>,
    /// The caller's user on this machine, at the operator's socket.
    pub user: Option<u32>,
}

impl Caller {
    /// The caller at the operator's socket, in words.
    #[must_use]
    pub fn operator(&self) -> String {
        match self.user {
            Some(0) => "root".to_owned(),
            Some(user) => format!("user {user}"),
            None => "its operator".to_owned(),
        }
    }
}

/// The names of which a certificate must have one before its owner may change something; none given: every caller may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterNames(Vec<String>);

impl MasterNames {
    /// The names, each as [`MasterNames::read`] returned it.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Checks one name.
    ///
    /// # Errors
    /// The text is no name; the error is the end of a sentence that starts with it.
    pub fn read(name: &str) -> Result<String, String> {
        let name = name.trim();
        if name.is_empty() || name.len() > NAME_LIMIT || name.chars().any(char::is_control) {
            return Err("is no name; give one that the master's certificate has, such as master.example.org".to_owned());
        }
        Ok(name.to_owned())
    }

    /// Whether a certificate with these names will do. Upper and lower case are one, as in the domain name system.
    #[must_use]
    pub fn admit(&self, certificate: &[String]) -> bool {
        let has = |name: &String| certificate.iter().any(|had| had.eq_ignore_ascii_case(name));
        self.0.is_empty() || self.0.iter().any(has)
    }

    /// Whether no name is asked for, so that every caller may change something.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_of_a_certificate_will_do_and_no_part_of_one() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let master = MasterNames::new(names(&["master.example", "m2"]));

        for (certificate, is_admitted) in [
            (&["MASTER.example"][..], true),
            (&["other", "m2"], true),
            (&["worker.example"], false),
            (
                &["a.master.example", "master.example.org", "*.example"],
                false,
            ),
            (&[], false),
        ] {
            let certificate: Vec<_> = names(certificate);
            assert_eq!(master.admit(&certificate), is_admitted, "{certificate:?}");
        }
        assert!(MasterNames::default().admit(&[]), "nobody asks for a name");
        assert_eq!(
            MasterNames::read(" cloudai master ").unwrap(),
            "cloudai master"
        );
        for nonsense in ["", " ", "a\nb", &"x".repeat(254)] {
            assert!(MasterNames::read(nonsense).is_err());
        }
    }

    fn known() -> Addresses {
        Addresses {
            master: vec!["172.17.0.9".parse().unwrap(), "10.1.1.1".parse().unwrap()],
            tasks: vec![
                "172.17.0.0/16".parse().unwrap(),
                "fd00::/64".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn each_of_the_words_lets_in_whom_it_says() {
        let callers = [
            ("a stranger", "192.0.2.1"),
            ("a task", "172.17.0.3"),
            (
                "a task, as a socket of both families sees it",
                "::ffff:172.17.0.3",
            ),
            ("a task of IPv6", "fd00::3"),
            ("a master in a container", "172.17.0.9"),
            ("the master", "10.1.1.1"),
            ("a neighbour", "10.0.0.8"),
        ];
        for (words, lets_in) in [
            ("auto", [true, false, false, false, true, true, true]),
            ("any", [true; 7]),
            ("master", [false, false, false, false, true, true, false]),
            (
                "10.0.0.0/24",
                [false, false, false, false, true, true, true],
            ),
            ("10.0.0.8", [false, false, false, false, true, true, true]),
            (
                "master, fd00::/64",
                [false, false, false, true, true, true, false],
            ),
            (
                "auto,172.17.0.3",
                [true, true, true, false, true, true, true],
            ),
        ] {
            let allow: AllowFrom = words.parse().unwrap();
            for ((who, address), is_let_in) in callers.iter().zip(lets_in) {
                let admitted = allow.admits(address.parse().unwrap(), &known());
                assert_eq!(admitted, is_let_in, "{who} under {words}");
            }
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for text in ["", "all", "10.0.0.0/33", "master,", "10.0.0", "a.example"] {
            let refused = text.parse::<AllowFrom>().unwrap_err();
            assert!(refused.contains("10.0.0.0/24"), "{text}: {refused}");
        }
    }

    #[test]
    fn it_reads_as_it_was_written() {
        for text in ["auto", "any", "master,10.0.0.0/24,fd00::/8"] {
            assert_eq!(text.parse::<AllowFrom>().unwrap().to_string(), text);
        }
        let host: AllowFrom = "10.0.0.7/24".parse().unwrap();
        assert_eq!(host.to_string(), "10.0.0.0/24");
    }

    #[test]
    fn what_stays_open_is_known() {
        for (text, is_open, admits_tasks) in [
            ("auto", true, false),
            ("any", true, true),
            ("master", false, false),
            ("master,any", true, true),
        ] {
            let allow: AllowFrom = text.parse().unwrap();
            assert_eq!(
                (allow.is_open(), allow.admits_tasks()),
                (is_open, admits_tasks)
            );
        }
    }
}
