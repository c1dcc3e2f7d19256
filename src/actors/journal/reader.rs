//! The journal's other thread: it reads about all tasks at once on a connection of its own, so that no commit waits for that. If
//! it finds the store damaged, it tells the writer.

use log::error;
use tokio::sync::{mpsc, oneshot};

use super::Job;
use crate::{
    domain::record::Snapshot,
    ports::journal::{Household, JournalError, JournalReader, JournalStore},
    supervision::threads,
};

/// A question, and where its answer goes.
pub(super) enum Question {
    /// All unfinished tasks.
    Unfinished(oneshot::Sender<Result<Snapshot, JournalError>>),
    /// Ids and times of all tasks.
    Household(oneshot::Sender<Result<Household, JournalError>>),
}

/// Starts the thread. If that fails, questions are dropped, and this incarnation of the journal fails at the first.
pub(super) fn begin(
    store: &Result<Box<dyn JournalStore>, JournalError>,
    questions: mpsc::UnboundedReceiver<Question>,
    damage: mpsc::WeakUnboundedSender<Job>,
) {
    let reader = match store {
        Ok(store) => store.reader(),
        Err(error) => Err(error.clone()),
    };
    let started = threads::own("journal-reader", move || {
        Reader { reader, damage }.work(questions)
    });
    if let Err(error) = started {
        error!(error:%; "the journal's reader cannot be started");
    }
}

/// The work of the thread.
struct Reader {
    /// The open connection, or why there is none.
    reader: Result<Box<dyn JournalReader>, JournalError>,
    damage: mpsc::WeakUnboundedSender<Job>,
}

impl Reader {
    async fn work(mut self, mut questions: mpsc::UnboundedReceiver<Question>) {
        while let Some(question) = questions.recv().await {
            match question {
                Question::Unfinished(reply) => self.answer(reply, |reader| reader.unfinished()),
                Question::Household(reply) => self.answer(reply, |reader| reader.household()),
            }
        }
    }

    fn answer<T>(
        &mut self,
        reply: oneshot::Sender<Result<T, JournalError>>,
        read: impl FnOnce(&mut dyn JournalReader) -> Result<T, JournalError>,
    ) {
        let answer = match &mut self.reader {
            Ok(reader) => read(reader.as_mut()),
            Err(error) => Err(error.clone()),
        };
        if let Err(JournalError::Damaged(why)) = &answer
            && let Some(writer) = self.damage.upgrade()
        {
            // No answer: the question is asked again of the next incarnation, which opens the journal anew.
            let _ = writer.send(Job::Damaged(why.clone()));
            return;
        }
        let _ = reply.send(answer);
    }
}
