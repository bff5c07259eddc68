"""The theory lab: models and data opened, measured over noise levels, and what was found as a TheoryResult."""
