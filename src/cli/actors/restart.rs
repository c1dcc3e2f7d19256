//! `worker-node actors restart NAME`: gives the order, and waits until the next incarnation runs. The waiting is here and not in
//! the worker, since the actor may be the very one that answers us.

use std::time::Duration;

use tokio::time::Instant;

use super::{Trouble, words};
use crate::ports::admin::{ActorState, ActorView, Admin, AdminError};

/// How long to wait for the next incarnation, longer than the worker's deadlines of a stop and a start; then the command fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks at the actor.
const PERIOD: Duration = Duration::from_millis(50);

/// Restarts an actor and waits for its next incarnation; returns the line to print.
pub(super) async fn restart(admin: &dyn Admin, name: &str) -> Result<String, Trouble> {
    let before = admin.actor(name).await?;
    let begun = Instant::now();
    match admin.restart(name).await {
        // The answer is lost where the actor is the one that carries it; whether the order arrived is seen below.
        Ok(()) | Err(AdminError::Lost(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let after = back(admin, &before, begun + PATIENCE).await?;
    Ok(format!(
        "{} restarted: generation {}, {} after {}\n",
        words::foreign(&after.name, 1_024),
        after.generation,
        after.state,
        words::time(begun.elapsed())
    ))
}

async fn back(
    admin: &dyn Admin,
    before: &ActorView,
    deadline: Instant,
) -> Result<ActorView, Trouble> {
    loop {
        let standing = match admin.actor(&before.name).await {
            Ok(actor) => match verdict(before, &actor) {
                Verdict::Back => return Ok(actor),
                Verdict::Down => return Err(not_back(before, &actor.state)),
                Verdict::Coming => actor.state.to_string(),
            },
            Err(error @ (AdminError::Lost(_) | AdminError::Unavailable)) => error.to_string(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(not_back(before, &standing));
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn not_back(actor: &ActorView, why: &impl ToString) -> Trouble {
    Trouble::NotBack(actor.name.clone(), why.to_string())
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Coming,
    Back,
    Down,
}

fn verdict(before: &ActorView, now: &ActorView) -> Verdict {
    let is_next = now.generation > before.generation;
    match now.state {
        ActorState::Running if is_next => Verdict::Back,
        ActorState::Stopped | ActorState::Fatal if is_next => Verdict::Down,
        ActorState::Running
        | ActorState::Stopped
        | ActorState::Fatal
        | ActorState::Starting
        | ActorState::Backoff
        | ActorState::Stopping => Verdict::Coming,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::{super::specimen, *};
    use crate::{
        domain::callers::Caller,
        ports::{
            admin::{ActorTree, TaskView},
            status::WorkerStatus,
        },
    };

    /// Answers each look with the next of `looks`; the last one again and again.
    struct Scripted {
        looks: Mutex<Vec<Result<ActorView, AdminError>>>,
        order: Result<(), AdminError>,
    }

    impl Scripted {
        fn new(order: Result<(), AdminError>, looks: &[Result<ActorView, AdminError>]) -> Self {
            let mut looks = looks.to_vec();
            looks.reverse();
            Self {
                looks: Mutex::new(looks),
                order,
            }
        }
    }

    #[async_trait]
    impl Admin for Scripted {
        async fn reload(&self) -> Result<crate::ports::admin::Reload, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn log_level(
            &self,
            _: crate::ports::admin::LogOrder,
        ) -> Result<crate::ports::admin::LogLevel, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn actors(&self) -> Result<ActorTree, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn actor(&self, _: &str) -> Result<ActorView, AdminError> {
            let mut looks = self.looks.lock().unwrap();
            if looks.len() == 1 {
                return looks[0].clone();
            }
            looks.pop().unwrap()
        }

        async fn tasks(&self) -> Result<Vec<TaskView>, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn status(&self) -> Result<WorkerStatus, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn restart(&self, _: &str) -> Result<(), AdminError> {
            self.order.clone()
        }

        async fn retry_outbox(&self) -> Result<u64, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn drop_result(&self, _: &str) -> Result<(), AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn cordon(&self, _: &Caller, _: Option<Duration>) -> Result<(), AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn uncordon(&self) -> Result<(), AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn cancel(&self, _: &Caller, _: &str) -> Result<(), AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn images(&self) -> Result<Vec<crate::ports::admin::ImageView>, AdminError> {
            Err(AdminError::Unavailable)
        }

        async fn pull(
            &self,
            _: &Caller,
            _: &str,
        ) -> Result<crate::ports::admin::PullSteps, AdminError> {
            Err(AdminError::Unavailable)
        }
    }

    fn actor(generation: u64, state: ActorState) -> Result<ActorView, AdminError> {
        Ok(ActorView {
            generation,
            state,
            ..specimen::subsystem("journal")
        })
    }

    #[tokio::test]
    async fn it_waits_until_the_next_incarnation_runs() {
        tokio::time::pause();
        let admin = Scripted::new(
            Ok(()),
            &[
                actor(1, ActorState::Running),
                actor(1, ActorState::Running),
                actor(1, ActorState::Stopping),
                actor(2, ActorState::Starting),
                actor(2, ActorState::Running),
            ],
        );

        let told = restart(&admin, "journal").await.unwrap();

        let words = "journal restarted: generation 2, RUNNING after ";
        assert!(told.starts_with(words), "{told}");
    }

    #[tokio::test]
    async fn a_lost_answer_is_no_lost_order() {
        tokio::time::pause();
        let lost = || AdminError::Lost("reset".into());
        let admin = Scripted::new(
            Err(lost()),
            &[
                actor(1, ActorState::Running),
                Err(lost()),
                actor(2, ActorState::Running),
            ],
        );

        let told = restart(&admin, "admin").await.unwrap();

        assert!(told.contains("generation 2"), "{told}");
    }

    #[tokio::test]
    async fn one_that_does_not_come_back_is_told_in_the_end() {
        tokio::time::pause();
        for (last, words) in [
            (ActorState::Starting, "journal is not back: STARTING"),
            (ActorState::Fatal, "journal is not back: FATAL"),
        ] {
            let admin = Scripted::new(Ok(()), &[actor(1, ActorState::Running), actor(2, last)]);

            let trouble = restart(&admin, "journal").await.unwrap_err();

            assert_eq!(trouble.to_string(), words);
        }
    }

    #[tokio::test]
    async fn a_refusal_is_final() {
        let admin = Scripted::new(
            Err(AdminError::Task("a".into())),
            &[actor(1, ActorState::Running)],
        );

        let trouble = restart(&admin, "a").await.unwrap_err();

        assert!(matches!(trouble, Trouble::Admin(AdminError::Task(_))));
    }
}
