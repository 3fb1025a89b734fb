# syntax=docker/dockerfile:1
# Burble with a Redis of its own: docker build -t burble . && docker run -p 8080:8080 -v burble:/var/lib/burble burble
# With PUBSUB_SERVER_HOST and SERVER_DB it is one of several nodes; see deploy/docker/compose.yaml.

FROM docker.io/library/rust:1.95-slim-bookworm AS build
WORKDIR /src
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --profile dist --locked --features jemalloc --bin burble \
 && install -m 755 target/dist/burble /usr/local/bin/burble

FROM docker.io/library/debian:bookworm-slim AS node
LABEL org.opencontainers.image.title="Burble" \
      org.opencontainers.image.description="A chat server on Redis Streams" \
      org.opencontainers.image.licenses="MIT"
# redis-server for the embedded set-up, postgresql-client for `burble backup`.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates postgresql-client redis-server \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -m 700 -o 10001 -g 10001 /var/lib/burble
COPY --from=build /usr/local/bin/burble /usr/local/bin/burble
USER 10001:10001
WORKDIR /var/lib/burble
VOLUME /var/lib/burble
# The listener for operators is for the network of the containers: publish 8080 alone.
ENV DATA_DIR=/var/lib/burble \
    SERVER_HOST=0.0.0.0 \
    OPS_HOST=0.0.0.0 \
    LOG_FORMAT=json
EXPOSE 8080 9100
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 CMD ["burble", "healthcheck"]
ENTRYPOINT ["burble"]
CMD ["serve"]
