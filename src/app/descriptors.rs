//! The process's limit of open files: each task takes some of them, and a login's soft limit (1,024) is used up by some hundred
//! tasks, while the hard limit allows many more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard limit. A failure is only logged: nothing depends on it alone.
pub(super) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    if before.current == before.maximum {
        return;
    }
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => {
            log::debug!(from:? = before.current, to:? = before.maximum; "the limit of open files was raised");
        }
        Err(error) => log::warn!(error:%; "the limit of open files could not be raised"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_comes_up_to_the_hard_one() {
        raise_limit();

        let limit = getrlimit(Resource::Nofile);

        assert_eq!(limit.current, limit.maximum);
    }
}
