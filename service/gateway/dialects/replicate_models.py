"""Replicate's models, their versions and deployments, as far as a client asks about them before it runs one."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...contract.errors import JobError
from ..desk import Desk
from ..http import base_url, caller_of
from ..refusal import Refusal
from .replicate_inputs import MODELS, OWNER, Model

COG_VERSION = "0.16.0"
MADE_AT = "2025-07-28T00:00:00.000000Z"


def model_named(owner: str | None, name: str) -> Model:
    """`owner` None for a deployment, which is its user's. Raises Refusal."""
    model = MODELS.get(name.lower())
    if model is None or (owner is not None and owner.lower() != OWNER):
        names = ", ".join(f"{OWNER}/{each}" for each in MODELS)
        raise Refusal("NOT_FOUND", f"there is no such model here; there are {names}")
    return model


def model_of_version(version: Any) -> Model:
    """By `owner/name`, `owner/name:version` or the version alone. Raises JobError."""
    if not isinstance(version, str) or not version:
        raise JobError("MISSING_FIELD", "version is needed", "version")
    name, _, only = version.partition(":")
    if "/" in name:
        return model_named(*name.split("/", 1))
    found = next((model for model in MODELS.values() if model.is_version(only or name)), None)
    if found is None:
        names = ", ".join(f"{OWNER}/{each}" for each in MODELS)
        sentence = f"version is none that this gateway knows; {names} can be run by name"
        raise JobError("INVALID_VALUE", sentence, "version")
    return found


def render_version(model: Model) -> dict[str, Any]:
    schemas = {
        "Input": model.input.model_json_schema() | {"title": "Input"},
        "Output": {"type": "string", "title": "Output", "format": "uri"},
    }
    return {
        "id": model.version,
        "created_at": MADE_AT,
        "cog_version": COG_VERSION,
        "openapi_schema": {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "paths": {},
            "components": {"schemas": schemas},
        },
    }


def render_model(model: Model, base: str) -> dict[str, Any]:
    return {
        "url": f"{base}/replicate/v1/models/{OWNER}/{model.name}",
        "owner": OWNER,
        "name": model.name,
        "description": model.description,
        "visibility": "public",
        "is_official": True,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": render_version(model),
    }


def render_deployment(model: Model, owner: str, base: str) -> dict[str, Any]:
    configuration = {"hardware": "gateway", "min_instances": 0, "max_instances": 1}
    release = {
        "number": 1,
        "model": f"{OWNER}/{model.name}",
        "version": model.version,
        "created_at": MADE_AT,
        "created_by": {"type": "organization", "username": owner, "name": owner, "github_url": None},
        "configuration": configuration,
    }
    return {"owner": owner, "name": model.name, "current_release": release}


def model_routes(desk: Desk) -> APIRouter:
    """Deployments are the models under any owner's name."""
    router = APIRouter()

    def page(results: list[dict[str, Any]]) -> Response:
        return JSONResponse({"previous": None, "next": None, "results": results})

    @router.get("/models")
    async def models(request: Request) -> Response:
        caller_of(request, desk)
        return page([render_model(model, desk.links.base(base_url(request))) for model in MODELS.values()])

    @router.get("/models/{owner}/{name}")
    async def model(request: Request, owner: str, name: str) -> Response:
        caller_of(request, desk)
        return JSONResponse(render_model(model_named(owner, name), desk.links.base(base_url(request))))

    @router.get("/models/{owner}/{name}/versions")
    async def versions(request: Request, owner: str, name: str) -> Response:
        caller_of(request, desk)
        return page([render_version(model_named(owner, name))])

    @router.get("/models/{owner}/{name}/versions/{version}")
    async def version(request: Request, owner: str, name: str, version: str) -> Response:
        caller_of(request, desk)
        found = model_named(owner, name)
        if not found.is_version(version):
            raise Refusal("NOT_FOUND", "there is no such version here")
        return JSONResponse(render_version(found) | {"id": version})

    @router.get("/deployments")
    async def deployments(request: Request) -> Response:
        owner = caller_of(request, desk).name
        return page([render_deployment(model, owner, desk.links.base(base_url(request))) for model in MODELS.values()])

    @router.get("/deployments/{owner}/{name}")
    async def deployment(request: Request, owner: str, name: str) -> Response:
        caller_of(request, desk)
        return JSONResponse(render_deployment(model_named(None, name), owner, desk.links.base(base_url(request))))

    return router
