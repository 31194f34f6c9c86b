# syntax=docker/dockerfile:1
# A small image with one static binary, for linux/amd64 and linux/arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 -t profile-relay .
FROM rust:1.95-alpine AS build
# ring and mimalloc are compiled by cc.
RUN apk add --no-cache build-base
WORKDIR /src
COPY . .
RUN cargo build --release --locked && cp target/release/profile-relay /profile-relay

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /profile-relay /usr/bin/profile-relay
COPY config/sidecar.yaml /etc/profile-relay/config.yaml
USER nonroot
# Metrics, health and status; bound to loopback unless service.admin says otherwise.
EXPOSE 13133
ENTRYPOINT ["/usr/bin/profile-relay"]
CMD ["run", "--config", "/etc/profile-relay/config.yaml"]
