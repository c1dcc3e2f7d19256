//! Whether a worker can do its work on this machine, as an operator is told it: one finding per thing that was looked at.

/// What was found out about one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The part that was looked at, in one word.
    pub part: &'static str,
    /// The verdict on it.
    pub verdict: Verdict,
    /// Why, in words. Some of them are other programs'.
    pub why: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

/// Whether a part is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The part is as it should be.
    Fine,
    /// The worker works, though not as it could, or not for long.
    Warning,
    /// The worker does not start, or runs no task.
    Fault,
    /// The part was not looked at; `why` says why.
    Skipped,
}

impl Verdict {
    /// The verdict in one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
            Self::Skipped => "skipped",
        }
    }
}

impl Finding {
    /// A finding: the part is as it should be.
    #[must_use]
    pub fn fine(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Fine, why)
    }

    /// A finding: the part is not as it could be.
    #[must_use]
    pub fn warning(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Warning, why)
    }

    /// A finding: the part is wrong.
    #[must_use]
    pub fn fault(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Fault, why)
    }

    /// A finding: the part was not looked at.
    #[must_use]
    pub fn skipped(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Skipped, why)
    }

    /// The same finding, with what to do about it.
    #[must_use]
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    fn new(part: &'static str, verdict: Verdict, why: impl Into<String>) -> Self {
        Self {
            part,
            verdict,
            why: why.into(),
            remedy: None,
        }
    }
}
