//! What an examination of the set-up found: one line, and what to do about it. Knows nothing of what is examined.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing, or not to be told from here.
    Note,
    /// It works, and will not do for long, or not for all.
    Warning,
    /// It does not work, or loses messages.
    Failure,
}

impl Verdict {
    /// The word of the report.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at; the same on every run.
    pub check: String,
    /// Which one, where there may be several.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// How bad it is.
    pub verdict: Verdict,
    /// What was there.
    pub found: String,
    /// The command or the setting that mends it; empty where all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found, "")
    }

    /// Worth knowing.
    pub fn note(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Verdict::Note, found, remedy)
    }

    /// To be looked after.
    pub fn warning(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, found, remedy)
    }

    /// To be mended.
    pub fn failure(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, Verdict::Failure, found, remedy)
    }

    /// Any of them.
    pub fn new(
        check: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { check: check.into(), at: String::new(), verdict, found: found.into(), remedy: remedy.into() }
    }

    /// The same, of one of several that are looked at.
    #[must_use]
    pub fn of(mut self, which: &impl fmt::Display) -> Self {
        self.at = which.to_string();
        self
    }
}

/// As the reason of a start that is refused.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.found)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}
