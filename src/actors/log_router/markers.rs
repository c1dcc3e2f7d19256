//! The lines that stand in a log where output is missing, or may be.

pub(super) const NOT_PROVABLE: &str = "[worker-node] continuity is not provable here: the engine's record of this output does not go on \
                            where the stream broke off";
pub(super) const ENGINE_DIED: &str =
    "[worker-node] continuity is not provable here: the engine died while this output was written";
pub(super) const UNREADABLE: &str = "[worker-node] an unknown number of bytes is missing here: the engine cannot read its record of this output";
pub(super) const TORN: &str =
    "[worker-node] an unknown number of bytes is missing here: the engine's log file is damaged";
pub(super) const CUT: &str = "[worker-node] an unknown number of bytes is missing here: somebody has cut the engine's log file short";
pub(super) const GONE: &str =
    "[worker-node] an unknown number of bytes is missing here: the engine has them no more";
