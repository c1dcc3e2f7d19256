//! Catching panics with their message and place.
//!
//! The hook runs on the panicking thread before it unwinds, so a thread-local carries what it saw to whoever catches the panic there.

use std::{
    any::Any,
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook},
    sync::Once,
};

use super::{exit::Exit, incarnation};

struct Seen {
    message: String,
    location: String,
}

thread_local! {
    /// The last panic of this thread, until it is caught.
    static LAST: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// Logs every panic of the process as one line at error, with the actor's name, and keeps message and place for the exit report. Where no
/// logger listens the previous hook speaks as well. Call it once, first in `main`; later calls change nothing.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |info| {
            observe(info);
            if !log::log_enabled!(log::Level::Error) && incarnation::running_name().is_none() {
                previous(info);
            }
        }));
    });
}

fn observe(info: &PanicHookInfo<'_>) {
    let message = info.payload_as_str().unwrap_or(NOT_A_STRING).to_owned();
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let actor = incarnation::running_name();
    log::error!(
        actor = actor.as_deref().unwrap_or("none"),
        thread = std::thread::current().name().unwrap_or("unnamed"),
        location = location.as_str(),
        message = message.as_str();
        "panic"
    );
    // `try_with`: the thread may be past the destruction of its locals.
    let _ = LAST.try_with(|last| last.replace(Some(Seen { message, location })));
}

const NOT_A_STRING: &str = "a panic payload that is not a string";

/// Runs `f`; a panic in it becomes `Err(Exit::Panicked)`. The caller must not use what `f` may have left half changed.
pub(super) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Exit> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let exit = describe(payload.as_ref());
        // A payload may be any value, even one whose destructor panics: that panic is swallowed.
        let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        exit
    })
}

fn describe(payload: &(dyn Any + Send)) -> Exit {
    let text = payload
        .downcast_ref::<&'static str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    let message = text.unwrap_or_else(|| NOT_A_STRING.to_owned());
    // What the hook kept may be of an older panic that other code has caught, since `resume_unwind` does not call the hook.
    let seen = LAST.with(RefCell::take);
    let location = seen
        .filter(|seen| seen.message == message)
        .map(|seen| seen.location)
        .unwrap_or_default();
    Exit::Panicked { message, location }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;

    #[test]
    fn a_panic_is_caught_with_its_place() {
        install_panic_hook();

        let caught = catch(|| panic!("so {}", "what"));

        let Err(Exit::Panicked { message, location }) = caught else {
            panic!("not caught: {caught:?}");
        };
        assert_eq!(message, "so what");
        assert!(location.contains("panics.rs:"), "{location}");
    }

    #[test]
    fn a_panic_past_the_hook_does_not_get_the_place_of_an_older_one() {
        install_panic_hook();

        let caught = catch(|| {
            let _ = catch_unwind(|| panic!("older"));
            resume_unwind(Box::new("newer"));
        });

        let newer = Exit::Panicked {
            message: "newer".to_owned(),
            location: String::new(),
        };
        assert_eq!(caught, Err(newer));
    }

    /// A payload that panics when it is dropped.
    struct Thorn;

    impl Drop for Thorn {
        fn drop(&mut self) {
            panic!("stung");
        }
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_goes_no_further() {
        let caught = catch(|| resume_unwind(Box::new(Thorn)));

        assert!(matches!(caught, Err(Exit::Panicked { .. })), "{caught:?}");
    }
}
