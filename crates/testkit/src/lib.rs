//! Starts real nodes and Redis servers for tests, and checks continuity.
