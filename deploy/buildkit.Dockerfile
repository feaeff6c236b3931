# The image of a Pollux node, built with BuildKit's cache mounts from the root of the repository:
#
#   docker build -f deploy/buildkit.Dockerfile -t pollux .
#
# What cargo downloaded and built stays on the building machine from one build to the next. The
# reasons for all the rest are in Dockerfile, beside this file, which builds everywhere.

ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ENV CARGO_PROFILE_DIST_STRIP=debuginfo
COPY . .
# A cache mount is gone when its step ends, so the binary is taken out of it within the step.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --profile dist --locked -p pollux-node --bin pollux \
    && install -D target/dist/pollux /out/pollux

FROM ${RUNTIME_IMAGE}
COPY --from=build /out/pollux /usr/local/bin/pollux
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/pollux/
# In a container only other machines can connect. A node that is told nothing about who may
# therefore refuses to start, and says what it wants to know: POLLUX_SECRET, or POLLUX_PUBLIC=true.
ENV POLLUX_HOST=0.0.0.0
# A number, so that Kubernetes can see that it is not root. It owns nothing and writes nothing.
USER 10001:10001
WORKDIR /
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["pollux", "health"]
ENTRYPOINT ["pollux"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Pollux" \
      org.opencontainers.image.description="A realtime server that does long polling first" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
