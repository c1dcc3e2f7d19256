//! Whether a worker can do its work on this machine, as an operator is told it: one finding per thing that was looked at.

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in one word.
    pub part: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// Why, in words. Some of them are other programs'.
    pub why: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should.
    Fine,
    /// The worker works, though not as it could, or not for long.
    Warning,
    /// The worker does not start, or runs no task.
    Fault,
    /// It was not looked at, and why.
    Skipped,
}

impl Verdict {
    /// In a word.
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
    /// It is as it should be.
    #[must_use]
    pub fn fine(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Fine, why)
    }

    /// It is not as it could be.
    #[must_use]
    pub fn warning(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Warning, why)
    }

    /// It is wrong.
    #[must_use]
    pub fn fault(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Fault, why)
    }

    /// It was not looked at.
    #[must_use]
    pub fn skipped(part: &'static str, why: impl Into<String>) -> Self {
        Self::new(part, Verdict::Skipped, why)
    }

    /// With what to do about it.
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
