"""Stores of keys and values on disk: plain zarr groups whose appends are atomic."""

from .kv_store import KVStore as KVStore
