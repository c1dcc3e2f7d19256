//! Reads the section `[policy]` of what tasks may ask for, each key by itself, so that every fault is told with its line. Pure.

use toml::{Spanned, de::DeValue};

use super::{
    profiles::{Read, size, switch, text, texts, time},
    taking::Taking,
};
use crate::domain::{
    policy::{Policy, PortRange, Users, read_capability, read_network, read_root},
    profile::TextPattern,
    task_settings::reading::{STOP_GRACE, TIMEOUT},
};

/// The section's name.
pub(super) const POLICY: &str = "policy";

/// The keys of the section.
const KEYS: [&str; 11] = [
    "environment",
    "networks",
    "allowed_roots",
    "named_volumes",
    "ports",
    "users",
    "capabilities",
    "ulimits",
    "max_timeout",
    "max_stop_grace",
    "max_shm",
];

impl Taking<'_> {
    pub(super) fn policy(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            let complaint = "`policy` is a section; write [policy] on a line of its own";
            return self.fault(value.span().start, complaint.into());
        };
        let mut policy = Policy::default();
        for (name, value) in table {
            let at = name.span().start;
            let name = name.get_ref().as_ref();
            match set(&mut policy, name, value.get_ref()) {
                Some(Ok(())) => {}
                Some(Err(complaint)) => self.fault(at, format!("{name} {complaint}")),
                None => self.unknown(at, "[policy]", name, &KEYS),
            }
        }
        self.policy = Some(policy);
    }
}

/// Reads one key's value into the policy; `None`: no key has this name.
fn set(to: &mut Policy, name: &str, value: &DeValue<'_>) -> Option<Read<()>> {
    Some(match name {
        "environment" => switch(value).map(|read| to.environment = read),
        "networks" => texts(value, read_network).map(|read| to.networks = Some(read)),
        "allowed_roots" => texts(value, read_root).map(|read| to.allowed_roots = read),
        "named_volumes" => texts(value, pattern).map(|read| to.named_volumes = read),
        "ports" => texts(value, PortRange::read).map(|read| to.ports = read),
        "users" => text(value, Users::read).map(|read| to.users = read),
        "capabilities" => texts(value, read_capability).map(|read| to.capabilities = read),
        "ulimits" => texts(value, limit).map(|read| to.ulimits = read),
        "max_timeout" => time(value, TIMEOUT).map(|read| to.max_timeout = read),
        "max_stop_grace" => time(value, STOP_GRACE).map(|read| to.max_stop_grace = read),
        "max_shm" => size(value).map(|read| to.max_shm = read),
        _ => return None,
    })
}

fn pattern(text: &str) -> Read<TextPattern> {
    match text.is_empty() {
        true => Err("fits no name".into()),
        false => Ok(TextPattern::new(text)),
    }
}

fn limit(text: &str) -> Read<String> {
    let is_name = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase());
    match is_name {
        true => Ok(text.to_owned()),
        false => Err("is no limit's name; give one such as nofile".into()),
    }
}

#[cfg(test)]
mod tests;
