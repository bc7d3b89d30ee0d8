"""Layers that networks are made of. They know no network; pickles of the former version name some of them here."""

from rmeeto.models.layers.norm import RMSNorm as RMSNorm
from rmeeto.models.layers.norm import add_residual as add_residual
from rmeeto.models.layers.patch_embed import PatchEmbed as PatchEmbed
from rmeeto.models.layers.patch_embed import inflate as inflate
from rmeeto.models.layers.position import join_tokens as join_tokens
from rmeeto.models.layers.position import resize_position_embedding as resize_position_embedding
from rmeeto.models.layers.position import resize_temporal_embedding as resize_temporal_embedding
from rmeeto.models.layers.position import split_tokens as split_tokens
